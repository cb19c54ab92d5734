"""Miniature of ASVspoof 2021 LA: keys with codec and transmission, the list of trials, FLAC files."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.miniature import Miniature

CONDITIONS = ("none loc_tx", "alaw ita_tx", "pstn mad_tx", "opus sin_tx")
ATTACKS = ("A07", "A10", "A17", "A19")
PHASES = ("notrim eval", "notrim eval", "notrim progress", "notrim eval", "notrim eval", "trim hidden")
PEOPLE = (4, 5, 6, 7)
COUNT = 8  # trials of each class


def make(root: Path, media: Miniature) -> None:
    """Write `keys/LA/CM/trial_metadata.txt` and `ASVspoof2021_LA_eval/`."""
    trials = []
    for number in range(2 * COUNT):
        pair, fake = number // 2, number % 2 == 1
        subject = PEOPLE[pair % len(PEOPLE)]
        # Bona fide trials have their key for an attack.
        attack = f"{ATTACKS[pair % len(ATTACKS)]} spoof" if fake else "bonafide bonafide"
        phase = PHASES[pair % len(PHASES)]
        condition = CONDITIONS[pair // 2 % len(CONDITIONS)]
        utterance = f"LA_E_{9_000_000 + 7919 * number}"
        line = f"LA_{subject + 5:04d} {utterance} {condition} {attack} {phase}"
        trials.append((utterance, subject, fake, line))
    write_track(root, media, "LA", trials)


def write_track(root: Path, media: Miniature, track: str, trials: list[tuple[str, int, bool, str]]) -> None:
    """Write keys, list and audio of `trials`: utterance, subject, whether it is fake, line of the keys."""
    keys, folder = root / "keys" / track / "CM", root / f"ASVspoof2021_{track}_eval"
    keys.mkdir(parents=True)
    for utterance, subject, fake, _ in trials:
        media.speech(folder / "flac" / f"{utterance}.flac", subject, fake)
    (keys / "trial_metadata.txt").write_text("".join(f"{line}\n" for *_, line in trials))
    names = "".join(f"{utterance}\n" for utterance, *_ in trials)
    (folder / f"ASVspoof2021.{track}.cm.eval.trl.txt").write_text(names)

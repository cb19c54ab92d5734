"""Miniature of ASVspoof 2019 LA: protocols, FLAC files, and scores of an imagined speaker verification."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avdetect.data.demo.miniature import Miniature

# part -> ending of the protocol, letter of the utterances, people, attacks, trials of each class
PARTS = {
    "train": ("train.trn", "T", (0, 1, 2, 3), ("A01", "A02", "A03", "A04"), 12),
    "dev": ("dev.trl", "D", (4, 5), ("A01", "A02", "A03", "A04"), 4),
    "eval": ("eval.trl", "E", (6, 7), ("A07", "A10", "A17", "A19"), 8),
}
ASV_TRIALS = {"target": (1.5, 60), "nontarget": (-1.5, 60), "spoof": (0.5, 60)}  # mean score, number


def make(root: Path, media: Miniature) -> None:
    """Write `LA/` with `ASVspoof2019_LA_{cm_protocols,asv_scores,train,dev,eval}`."""
    base = root / "LA"
    protocols, scores = base / "ASVspoof2019_LA_cm_protocols", base / "ASVspoof2019_LA_asv_scores"
    protocols.mkdir(parents=True)
    scores.mkdir()
    for part, (ending, letter, people, attacks, count) in PARTS.items():
        lines = []
        for number in range(2 * count):
            fake = number % 2 == 1
            subject = people[number // 2 % len(people)]
            utterance = f"LA_{letter}_{1_000_000 + 7919 * number}"
            attack = attacks[number // 2 % len(attacks)] if fake else "-"
            lines.append(f"LA_{subject + 79:04d} {utterance} - {attack} {'spoof' if fake else 'bonafide'}")
            media.speech(base / f"ASVspoof2019_LA_{part}" / "flac" / f"{utterance}.flac", subject, fake)
        (protocols / f"ASVspoof2019.LA.cm.{ending}.txt").write_text("\n".join(lines) + "\n")
    rng = np.random.default_rng(media.seed)
    lines = []
    for claim, (mean, count) in ASV_TRIALS.items():
        for key in PARTS["eval"][3] if claim == "spoof" else ("bonafide",):  # spoofed trials by attack
            lines += [f"{key} {claim} {score:.6f}" for score in rng.normal(mean, 1.0, count)]
    (scores / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt").write_text("\n".join(lines) + "\n")

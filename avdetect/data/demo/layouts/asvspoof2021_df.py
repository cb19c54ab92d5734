"""Miniature of ASVspoof 2021 DF: keys with codec, corpus and vocoder, the list of trials, FLAC files."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.layouts.asvspoof2021_la import COUNT, PEOPLE, PHASES, write_track
from avdetect.data.demo.miniature import Miniature

CODECS = ("nocodec", "low_mp3", "high_m4a", "mp3m4a")
# speaker's prefix, corpus, attack, kind of vocoder, the fields of the Voice Conversion Challenge
SOURCES = (
    ("LA_00", "asvspoof", "A14", "traditional_vocoder", "- - - -"),
    ("TEF", "vcc2020", "Task1-team20", "neural_vocoder_nonautoregressive", "Task1 team20 FF E"),
    ("VCC2TM", "vcc2018", "HUB-N10", "neural_vocoder_autoregressive", "- - - -"),
    ("LA_00", "asvspoof", "A16", "waveform_concatenation", "- - - -"),
)


def make(root: Path, media: Miniature) -> None:
    """Write `keys/DF/CM/trial_metadata.txt` and `ASVspoof2021_DF_eval/`."""
    trials = []
    for number in range(2 * COUNT):
        pair, fake = number // 2, number % 2 == 1
        subject = PEOPLE[pair % len(PEOPLE)]
        prefix, corpus, attack, vocoder, challenge = SOURCES[pair % len(SOURCES)]
        kind = f"{attack} spoof" if fake else "bonafide bonafide"
        codec = CODECS[pair // 2 % len(CODECS)]
        utterance = f"DF_E_{2_000_000 + 7919 * number}"
        line = (
            f"{prefix}{subject:02d} {utterance} {codec} {corpus} {kind} {PHASES[pair % len(PHASES)]} "
            f"{vocoder if fake else 'bonafide'} {challenge if fake else '- - - -'}"
        )
        trials.append((utterance, subject, fake, line))
    write_track(root, media, "DF", trials)

"""The verdict as a user gets it: genuine clips called fake, clips left open, and how far P(fake) can be believed."""

from __future__ import annotations

import numpy as np

from avdetect.recipes.genuine.context import Context, Row, beside, row
from avdetect.recipes.genuine.figures import calibration_error, no_figure, share

FALSE_ALARMS, CALIBRATED = ("<=", 0.05), ("<=", 0.05)


def label_rows(context: Context) -> list[Row]:
    """Share of genuine clips called fake, overall and by dataset, and the share left uncertain or unknown.

    A clip that could not be judged is not called fake, and counts.
    """
    genuine, seed = context.genuine(), context.seed
    genuine = genuine[genuine["said"].notna()]
    if not len(genuine):
        return [row("genuine clips called fake", no_figure("there is no such clip"), FALSE_ALARMS)]

    def called(clips, labels: tuple[str, ...]):
        return share(clips["said"].isin(labels).to_numpy(), clips["group"].to_numpy(), seed)

    by_dataset = {str(name): clips for name, clips in genuine.groupby("dataset", sort=True)}
    rows = []
    for measure, labels, goal in (
        ("genuine clips called fake", ("fake",), FALSE_ALARMS),
        ("genuine clips left uncertain or unknown", ("uncertain", "unknown"), None),
    ):
        each = {name: called(clips, labels) for name, clips in by_dataset.items()}
        rows.append(row(measure, called(genuine, labels), goal, beside(each), by=each))
    fakes = context.clips[context.clips["label"].eq(1).fillna(False) & context.clips["said"].notna()]
    if len(fakes):
        each = {str(name): called(clips, ("fake",)) for name, clips in fakes.groupby("dataset", sort=True)}
        rows.append(row("fakes called fake", called(fakes, ("fake",)), None, beside(each), by=each))
    return rows


def calibration_rows(context: Context) -> list[Row]:
    """Expected calibration error of the fused score and of each modality where its truth is known."""
    clips, rows = context.clips, []
    for column, truth, what in (
        ("score", "label", "fused score, all clips"),
        ("visual", "visual_label", "face"),
        ("audio", "audio_label", "voice"),
    ):
        if column != "score" and column not in context.bundle.encoders:
            continue
        # of a fake clip the voice's label may be a mere guess: 0 counts where the whole clip is genuine
        told = clips[truth].eq(1) | clips["label"].eq(0) if column == "audio" else clips[truth].notna()
        known = clips[told.fillna(False).astype(bool) & clips[truth].notna() & clips[column].notna()]
        figure = calibration_error(
            known[truth].to_numpy(int), known[column].to_numpy(float), known["group"].to_numpy(), context.seed
        )
        each = {
            str(name): calibration_error(
                part[truth].to_numpy(int),
                part[column].to_numpy(float),
                part["group"].to_numpy(),
                context.seed,
            )
            for name, part in known.groupby("dataset", sort=True)
        }
        each = {name: figure for name, figure in each.items() if figure["value"] is not None}
        said = {"mean P(fake)": float(np.mean(known[column])), "share of fakes": float(np.mean(known[truth]))} \
            if len(known) else {}  # fmt: skip
        rows.append(
            row(f"expected calibration error, {what}", figure, CALIBRATED, beside(each), by=each, **said)
        )
    return rows

"""The card of a detector for people: what `avdetect bundle show` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avdetect.errors import WeightsError
from avdetect.inference.card import HOW_TO_GET_ONE, read_card
from avdetect.inference.verdict import PARTS, printable

WIDTH = 100
_LEFT = 16  # columns of titles
_TITLES = {"fused": "All together", **PARTS}
_NOT_RECORDED = "not recorded on the card"


def card_text(folder: str | Path) -> str:
    """All that a person should know of the detector in a folder, at most `WIDTH` columns where words allow it.

    Raises WeightsError where the card is missing or lacks what every bundle has.
    """
    folder = Path(folder)
    card = read_card(folder)
    try:
        return "\n".join(_lines(card, folder)) + "\n"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder / 'card.json'} does not describe a detector ({error}): {HOW_TO_GET_ONE}"
        ) from error


def _lines(card: Mapping[str, Any], folder: Path) -> Iterator[str]:
    yield from _entry("Name", [f"{card.get('name') or 'unnamed'}, made {card['created']}"])
    yield from _entry("Folder", [str(folder)])
    yield from _entry("Licence", [card.get("licence"), card.get("terms")])
    yield from _entry("Data", card.get("data") or card.get("training_data"))
    yield from _entry("Chosen on", [card.get("selected_on")])
    yield from _entry("Trained by", card.get("training"))
    for modality, entry in card["encoders"].items():
        size = (folder / Path(entry["file"]).name).stat().st_size / 1e6
        yield from _entry(
            PARTS[modality], [f"{entry['name']}, {size:.1f} MB, SHA-256 {entry['sha256'][:16]}…"]
        )
    yield from _entry("Verdicts", _verdicts(card["thresholds"]))
    yield from _entry("Not judged", _not_judged(card.get("novelty")))
    yield from _entry("Measured", _measured(card))
    yield from _entry("Known failures", [f"- {text}" for text in card.get("known_failures") or []])
    yield from _entry("Warnings", card.get("warnings") or ["none"])


def _entry(title: str, values: Iterable[str | None] | None) -> Iterator[str]:
    """A title and its lines beside it, wrapped; what a card leaves out is said to be left out."""
    texts = [printable(str(value)) for value in values or [] if value not in (None, "")]
    for number, text in enumerate(texts or [_NOT_RECORDED]):
        hanging = "  " if text.startswith("- ") else ""
        yield from textwrap.wrap(
            text, WIDTH, break_long_words=False, break_on_hyphens=False,
            initial_indent=(title if number == 0 else "").ljust(_LEFT), subsequent_indent=" " * _LEFT + hanging,
        )  # fmt: skip


def _verdicts(thresholds: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"{_TITLES[name]}: fake above {limits['fake_above']:.2f}, real below {limits['real_below']:.2f}, else uncertain"
        for name, limits in thresholds.items()
    ]


def _not_judged(novelty: Mapping[str, Any] | None) -> list[str]:
    """What `inference.novelty` leaves out."""
    if not novelty:
        return ["nothing is left out: media unlike what it learnt from are judged all the same"]
    smallest = novelty["smallest_face_px"]
    refusing = [name for name, limits in novelty["views"].items() if limits.get("refused", True) is not None]
    lines = [f"{name}s unlike those that it learnt from" for name in refusing]
    return lines + ([] if smallest is None else [f"faces of less than {smallest:.0f} pixels"])


def _measured(card: Mapping[str, Any]) -> list[str]:
    """AUC and EER of the run's test, then what the card tells beside; each with its 95 % interval."""
    metrics = card.get("metrics") or {}
    head = (
        f"Clips of the {metrics['split']} split, 95 % intervals by bootstrap over sources:"
        if metrics
        else None
    )
    rows = [f"- {what}: {figures} ({clips})" for what, figures, clips in measured_rows(card)]
    return [head, *rows] if head else rows


def measured_rows(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, figures with their 95 % intervals or why there are none, on which clips), as the card has them.

    Raises KeyError or TypeError where the card is not as bundles have it.
    """
    rows = []
    for name, report in (card.get("metrics") or {}).get("clips", {}).items():
        figures = f"not measured, {report['reason']}"
        if not report.get("reason"):
            figures = f"AUC {_figure(report['roc_auc'])}, EER {_figure(report['eer'])}"
        clips = f"{report['n_fake']} fake and {report['n_real']} genuine clips"
        rows.append((_TITLES.get(name, name), figures, clips))
    return rows + [(row["what"], _figure(row), row["clips"]) for row in card.get("measured") or []]


def _figure(values: Mapping[str, float | None]) -> str:
    numbers: Sequence[float | None] = [values["value"], values["low"], values["high"]]
    value, low, high = ("-" if number is None else f"{number:.3f}" for number in numbers)
    return f"{value} [{low}, {high}]"

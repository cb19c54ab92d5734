"""The report on paper: a markdown table, one line a figure."""

from __future__ import annotations

from typing import Any

from avdetect.recipes.genuine.context import Row, told

HEAD = "| measure | goal | measured [95 %] | clips (groups) | reached | beside |\n|---|---|---|---|---|---|"
_REACHED = {True: "yes", False: "no", None: ""}


def markdown(report: dict[str, Any]) -> str:
    """Title, what was measured, the parts of the report with their lines, and what went wrong."""
    about = report["about"]
    lines = [
        f"# Measured on the `{about['split']}` split",
        "",
        f"Detector `{about['bundle']}` (SHA-256 of its networks {about['sha256'][:16]}…), {about['clips']} clips, "
        f"{about['failed']} unreadable. Intervals: 95 % bootstrap over speakers where a dataset names five or more, "
        f"else over recordings, {about['resamples']} resamples, seed {about['seed']}.",
    ]
    for title, rows in report["parts"].items():
        if rows:
            lines += ["", f"## {title}", "", HEAD, *(_line(one) for one in rows)]
    if report["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    figure = row["figure"]
    groups = "" if figure["n_groups"] is None else f" ({figure['n_groups']})"
    beside = "; ".join(part for part in (row["beside"], figure["note"]) if part)
    cells = [
        row["measure"], row["goal"] or "", told(figure), f"{figure['n']}{groups}", _REACHED[row["met"]], beside,
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"

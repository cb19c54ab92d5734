"""Maps of embeddings as one self-contained, interactive HTML page; without scripts it shows the drawn pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from avdetect import __version__, report
from avdetect.inference.verdict import printable
from avdetect.report.pagefile import page_environment, replace_text
from avdetect.scan.embeddings import EmbeddingMap, EmbeddingMaps

TEMPLATES = Path(__file__).parent / "templates"
MODALITY_NAMES = {"visual": "face", "audio": "voice", "lipsync": "lip-sync"}


def write_embeddings_page(found: EmbeddingMaps, path: Path) -> None:
    """Write the page; an old one is replaced by a complete one only."""
    replace_text(path, render_embeddings_page(found))


def render_embeddings_page(found: EmbeddingMaps) -> str:
    """The page as text."""
    shared = Path(report.__file__).parent / "templates" / "report.css"
    style = _between_tags(shared, TEMPLATES / "embeddings.css")
    script = _between_tags(TEMPLATES / "embeddings.js")
    environment = page_environment(TEMPLATES)
    card = found.bundle.card
    return environment.get_template("embeddings.html.j2").render(
        policy=report.content_security_policy(style_src=_source(style), script_src=_source(script)),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_inside_script(_data(found))),
        name=found.set.name,
        detector=card.get("name") or "unnamed detector",
        networks=[
            (MODALITY_NAMES[one.modality], card["encoders"][one.modality]["name"], len(one.table))
            for one in found.maps
        ],
        pictures=[
            (_png(path), f"{MODALITY_NAMES[one.modality]} encoder, coloured by {column}")
            for one in found.maps
            for column, path in one.pictures.items()
        ],
        warnings=[*card.get("warnings", []), *found.set.warnings],
        command=shlex.join(found.command),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )


def _between_tags(*files: Path) -> str:
    return "\n" + "\n".join(file.read_text(encoding="utf-8") for file in files)


def _source(text: str) -> str:
    """What lets a style or script with this text, and no other, into the page."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _inside_script(values: dict[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _data(found: EmbeddingMaps) -> dict[str, Any]:
    """All that the script draws; a picture or sound that several maps show is there once."""
    media: dict[str, int] = {}
    maps = [_map_data(one, media) for one in found.maps]
    return {"maps": maps, "media": list(media)}


def _map_data(one: EmbeddingMap, media: dict[str, int]) -> dict[str, Any]:
    told = [name for name in one.groups if name not in ("label", "method")]
    points = []
    for row, face, sound in zip(one.table.to_dict("records"), one.faces, one.sounds, strict=True):
        points.append({
            "key": printable(row["key"]),
            "label": "not known" if pd.isna(row["label"]) else "fake" if row["label"] == 1 else "genuine",
            "method": _text(row["method"]),
            "told": [[name, _text(row[name])] for name in told if not pd.isna(row[name])],
            "score": _number(row["score"]),
            "own": _number(row["modality_score"]),
            "face": face and media.setdefault(face, len(media)),
            "sound": sound and media.setdefault(sound, len(media)),
        })  # fmt: skip
    return {
        "name": MODALITY_NAMES[one.modality],
        "points": points,
        "projections": {
            name: {"title": item.title, "axes": item.axes, "at": _unit_square(item.points)}
            for name, item in one.projections.items()
        },
        "groups": {
            column: [
                {"name": printable(group.name), "mark": group.mark, "of": np.flatnonzero(group.mask).tolist()}
                for group in groups
            ]
            for column, groups in one.groups.items()
        },
    }


def _unit_square(points: np.ndarray) -> list[list[float]]:
    """(N, 2) -> as pairs from 0 to 1, both axes to the same scale, y downwards."""
    low, high = points.min(axis=0), points.max(axis=0)
    at = (points - (low + high) / 2) / (float((high - low).max()) or 1.0) + 0.5
    at[:, 1] = 1 - at[:, 1]
    return np.round(at.astype(float), 4).tolist()


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else printable(str(value))


def _number(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 4)

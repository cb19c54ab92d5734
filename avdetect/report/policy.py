"""The page's one style and one script, and the content policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


@cache
def inlined(name: str) -> str:
    """`report.css` or `report.js` as it stands between the page's tags, which is what its hash is of."""
    return "\n" + (TEMPLATES / name).read_text(encoding="utf-8")


def content_security_policy(**directives: str) -> str:
    """The policy of a page: its own style and script by their SHA-256, data: pictures and sound, nothing else.

    directives: further or other ones, `_` for `-`: content_security_policy(form_action="'self'").
    """
    policy = {
        "default-src": "'none'",
        "style-src": _hash("report.css"),
        "script-src": _hash("report.js"),
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    policy |= {name.replace("_", "-"): sources for name, sources in directives.items()}
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


def _hash(name: str) -> str:
    digest = hashlib.sha256(inlined(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

"""What programs and cameras wrote into a file about how it was made. Places and people's names are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import av
from PIL import Image

_MOST, _LONGEST = 40, 300  # tags, characters of one
# Last part of a name, as in com.apple.quicktime.software.
_OF_RECORDINGS = frozenset(
    "encoder encoded_by encoding_tool handler_name creation_time creationdate software writing_application"
    " major_brand compatible_brands make model vendor_id comment".split()
) | {"com.android.version"}
_OF_PICTURES = frozenset(
    "software comment parameters prompt workflow creation_time".split()
)  # PNG texts and the like
_EXIF = {0x010F: "Make", 0x0110: "Model", 0x0131: "Software", 0x0132: "DateTime"}
# XMP: the program, and IPTC's word for pictures made by a network
_XMP = re.compile(rb"(CreatorTool|DigitalSourceType)(?:=\"|'|>|=')\s*([^<\"']{1,300})")


def recording_tags(
    container: av.container.InputContainer, streams: Mapping[str, av.stream.Stream | None]
) -> dict[str, str]:
    """{"container.encoder": "Lavf61.7.100", "video.handler_name": …}; streams: by the name before the dot."""
    sources = {"container": container, **streams}
    return _bounded(
        (f"{place}.{name}", text)
        for place, source in sources.items()
        if source is not None
        for name, text in source.metadata.items()
        if name.lower() in _OF_RECORDINGS or name.rpartition(".")[2].lower() in _OF_RECORDINGS
    )


def picture_tags(image: Image.Image) -> dict[str, str]:
    """{"exif.Software": …, "png.parameters": …, "xmp.CreatorTool": …}."""
    return _bounded(_of_picture(image))


def _of_picture(image: Image.Image) -> Iterator[tuple[str, object]]:
    exif = image.getexif()
    for number, name in _EXIF.items():
        if number in exif:
            yield f"exif.{name}", exif[number]
    for name, value in image.info.items():
        if str(name).lower().replace(" ", "_") in _OF_PICTURES:
            yield f"{str(image.format).lower()}.{name}", value
    xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
    for name, value in _XMP.findall(xmp.encode() if isinstance(xmp, str) else xmp):
        yield f"xmp.{name.decode()}", value


def _bounded(tags: Iterator[tuple[str, object]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tags:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        text = text.replace("\0", " ").strip()
        if text and len(found) < _MOST:
            found[name[:_LONGEST]] = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return found

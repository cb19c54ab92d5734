"""What a file is, told from its first bytes: a cheap look at an upload, before a decoder takes a real one."""

from __future__ import annotations

HEAD_BYTES = 4096  # enough for `media_kind`

# (offset, bytes) that media begin with. ISO files (mp4, mov, 3gp) name their first box from byte 4.
_MEDIA = (
    (0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (0, b"BM"), (0, b"II*\x00"), (0, b"MM\x00*"),
    (0, b"RIFF"), (0, b"RF64"), (0, b"\x1aE\xdf\xa3"), (0, b"OggS"), (0, b"fLaC"), (0, b"ID3"), (0, b"FLV\x01"),
    (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"),
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip"),
)  # fmt: skip
_RIFF_KINDS = (b"WEBP", b"WAVE", b"AVI ")
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (or an office document)"), (b"%PDF", "a PDF"), (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a rar archive"), (b"7z\xbc\xaf", "a 7z archive"), (b"\x7fELF", "a program"), (b"MZ", "a program"),
    (b"GIF8", "a GIF"), (b"#EXTM3U", "a playlist"),
)  # fmt: skip
_TS_PACKETS = ((0, 188), (4, 192))  # offset of the first sync byte, packet length
_TEXT_SHARE = 0.95


def is_media(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD_BYTES`, or all of it) may be a video, picture or recording."""
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] in _RIFF_KINDS
    if any(head[at : at + len(magic)] == magic for at, magic in _MEDIA):
        return True
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # MPEG audio and ADTS frames
        return head[1] & 0x18 != 0x08
    return any(
        len(head) > first + 2 * step and all(head[first + k * step] == 0x47 for k in range(3))
        for first, step in _TS_PACKETS
    )


def describe(head: bytes) -> str:
    """What a file that is no media seems to be, for the sentence that refuses it."""
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return name
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head)
    if head and printable >= _TEXT_SHARE * len(head) and b"\x00" not in head:
        return "text"
    return "of a kind that is not known here"

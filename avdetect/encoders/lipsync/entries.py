"""Names of the lip-sync encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_LIPSYNC = "the package's own, after Chung and Zisserman, Out of Time: Automated Lip Sync in the Wild, 2016"

ENTRIES: dict[str, Entry] = {
    "lipsync": Entry(
        "lipsync",
        "lipsync.lipsync:LipSync",
        _LIPSYNC,
        "2-D convolutions over mouths of 48 pixels, a log-mel front end, silence left out, a head on the curve",
    ),
    "lipsync_tiny": Entry(
        "lipsync",
        "lipsync.lipsync:LipSync",
        _LIPSYNC,
        "as lipsync, with fewer channels",
        {"channels": (12, 24, 32, 48), "dim": 96},
    ),
    # -- SyncNet
}

"""Names of the lip-sync encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_LIPSYNC = "the package's own, after Chung and Zisserman, Out of Time: Automated Lip Sync in the Wild, 2016"
_SYNCNET = (
    "Chung and Zisserman, Out of Time: Automated Lip Sync in the Wild, ACCV Workshops 2016; "
    "the released version 2 (joonson/syncnet_python)"
)
_SYNCNET_CHANGES = (
    "both streams (13,631,616 parameters) are as published; 38 are added: a linear head, uncalibrated, that "
    "makes a logit of the distance curve; windows without sound and pairs outside the clip have no weight"
)

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
    "lipsync_small": Entry(
        "lipsync",
        "lipsync.temporal:TemporalLipSync",
        _LIPSYNC,
        "frame differences, convolutions over time, the clip's channel taken out, evidence summed over the windows",
    ),
    "lipsync_wide": Entry(
        "lipsync",
        "lipsync.temporal:TemporalLipSync",
        _LIPSYNC,
        "as lipsync_small, with more channels",
        {"channels": (32, 64, 128, 192), "dim": 192},
    ),
    # -- SyncNet
    "syncnet": Entry("lipsync", "lipsync.syncnet:SyncNet", _SYNCNET, _SYNCNET_CHANGES),
    "syncnet_tiny": Entry(
        "lipsync",
        "lipsync.syncnet:SyncNet",
        _SYNCNET,
        "as syncnet, with an eighth of the channels and faces of 112 pixels, for tests",
        {"width": 4, "size": 112, "dim": 128},
    ),
}

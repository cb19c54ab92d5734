"""Names of the visual encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_ISPL = "Bonettini et al., Video Face Manipulation Detection Through Ensemble of CNNs, ICPR 2020"

ENTRIES: dict[str, Entry] = {
    # -- EfficientNet, with and without attention (ISPL)
    "efficientnet_autoatt_b4": Entry("visual", "visual.autoatt:EfficientNetAutoAttB4", _ISPL, "none"),
    "efficientnet_autoatt_b0": Entry(
        "visual",
        "visual.autoatt:EfficientNetAutoAttB0",
        _ISPL,
        "EfficientNet-B0 in place of B4: a quarter of the parameters",
    ),
    "efficientnet_autoatt_tiny": Entry(
        "visual",
        "visual.autoatt:EfficientNetAutoAttTiny",
        _ISPL,
        "a small EfficientNetV2-like base at 112 pixels with ordinary batch norm: trains on a CPU",
    ),
    # -- Xception
    # -- UCF
    # -- compact CNNs
    # -- backbones through timm, hybrid
}


def with_ssim(name: str) -> Entry:
    """The entry of `ssim(NAME)`."""
    return Entry(
        "visual",
        "visual.ssim:SSIM",
        "SSIM-project",
        "none",
        {"visual": name},
    )

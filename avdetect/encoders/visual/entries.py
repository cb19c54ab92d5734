"""Names of the visual encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_ISPL = "Bonettini et al., Video Face Manipulation Detection Through Ensemble of CNNs, ICPR 2020"
_UCF = "Yan et al., UCF: Uncovering Common Features for Generalizable Deepfake Detection, ICCV 2023"
_BACKBONE = "visual.backbones:Backbone"
_ONE_LOGIT = "one logit in place of ImageNet's classes"
_JOINED = "the papers of its backbones; joining their features before a dense head is common practice"

_XCEPTION = (
    "Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017; "
    f"as a detector: {_ISPL}"
)
_SIAMESE = "without the head from before the Siamese training, which the published network does not call"
_XCEPTION_INPUT = (
    "224 pixels and ImageNet's mean and deviation, as ISPL's Xception has them, where Chollet's has 299 pixels "
    "and 0.5"
)
_TINY = "a small EfficientNetV2-like base at 112 pixels with ordinary batch norm: trains on a CPU"
_MESONET = "Afchar et al., MesoNet: a Compact Facial Video Forgery Detection Network, WIFS 2018"

ENTRIES: dict[str, Entry] = {
    # -- EfficientNet, with and without attention (ISPL)
    "efficientnet_b4": Entry("visual", "visual.efficientnet:EfficientNetB4", _ISPL, "none"),
    "efficientnet_b4_st": Entry(
        "visual", "visual.efficientnet:EfficientNetB4", _ISPL, _SIAMESE, {"siamese": True}
    ),
    "efficientnet_tiny": Entry("visual", "visual.efficientnet:EfficientNetTiny", _ISPL, _TINY),
    "efficientnet_autoatt_b4": Entry("visual", "visual.autoatt:EfficientNetAutoAttB4", _ISPL, "none"),
    "efficientnet_autoatt_b4_st": Entry(
        "visual", "visual.autoatt:EfficientNetAutoAttB4", _ISPL, _SIAMESE, {"siamese": True}
    ),
    "efficientnet_autoatt_b0": Entry(
        "visual",
        "visual.autoatt:EfficientNetAutoAttB0",
        _ISPL,
        "EfficientNet-B0 in place of B4: a quarter of the parameters",
    ),
    "efficientnet_autoatt_lite0": Entry(
        "visual",
        "visual.autoatt:EfficientNetAutoAttLite0",
        _ISPL,
        "EfficientNet-Lite0 in place of B4, at 160 pixels: starts from ImageNet, trains and answers on a CPU",
    ),
    "efficientnet_autoatt_tiny": Entry("visual", "visual.autoatt:EfficientNetAutoAttTiny", _ISPL, _TINY),
    # -- residual
    "resnet_autoatt_small": Entry(
        "visual",
        "visual.resnet:ResNetAutoAttSmall",
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; the map that is taught where a face was "
        "changed: Dang et al., On the Detection of Digital Face Manipulation, CVPR 2020",
        "six blocks of plain convolutions at 144 pixels: trains on a CPU",
    ),
    # -- Xception
    "xception": Entry("visual", "visual.xception:XceptionEncoder", _XCEPTION, _XCEPTION_INPUT),
    "xception_st": Entry(
        "visual",
        "visual.xception:XceptionEncoder",
        _XCEPTION,
        f"{_SIAMESE}; {_XCEPTION_INPUT}",
        {"siamese": True},
    ),
    "xception_tiny": Entry(
        "visual",
        "visual.xception:XceptionTiny",
        _XCEPTION,
        "few channels, two blocks in the middle flow, 112 pixels: trains on a CPU",
    ),
    # -- UCF
    "ucf": Entry(
        "visual",
        "visual.ucf:UCF",
        _UCF,
        "without the classifiers of the two Xceptions, which the published code never calls",
    ),
    "ucf_tiny": Entry(
        "visual",
        "visual.ucf:UCF",
        _UCF,
        "narrow Xceptions with one middle block, 32 channels a branch, 128 pixels: trains on a CPU",
        {
            "size": 128,
            "width": 32,
            "entry": (8, 16, 24, 32, 48),
            "middle": 1,
            "last": (64, 96, 128),
        },
    ),
    # -- compact CNNs
    "meso4": Entry("visual", "visual.mesonet:Meso4", _MESONET, "none"),
    "mesoinception4": Entry("visual", "visual.mesonet:MesoInception4", _MESONET, "none"),
    "baseline_cnn": Entry(
        "visual",
        "visual.compact:BaselineCNN",
        "no publication: the baseline of the project that compares faces with SSIM maps, known by its 423,361 weights",
        "layers derived from that number (422,401 parameters and 960 statistics of batch norms)",
    ),
    "custom_cnn": Entry(
        "visual",
        "visual.compact:CustomCNN",
        "no publication: this package's own network for still faces",
        "none",
    ),
    # -- backbones through timm, hybrid
    "efficientnet_b0": Entry(
        "visual",
        _BACKBONE,
        "Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019",
        _ONE_LOGIT,
    ),
    "mobilenetv3_small": Entry(
        "visual", _BACKBONE, "Howard et al., Searching for MobileNetV3, ICCV 2019", _ONE_LOGIT
    ),
    "resnet50": Entry(
        "visual", _BACKBONE, "He et al., Deep Residual Learning for Image Recognition, CVPR 2016", _ONE_LOGIT
    ),
    "densenet121": Entry(
        "visual", _BACKBONE, "Huang et al., Densely Connected Convolutional Networks, CVPR 2017", _ONE_LOGIT
    ),
    "vit_b16": Entry(
        "visual",
        _BACKBONE,
        "Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, "
        "ICLR 2021",
        _ONE_LOGIT,
    ),
    "vgg16": Entry(
        "visual",
        "visual.vgg:VGG16",
        "Parkhi, Vedaldi and Zisserman, Deep Face Recognition, BMVC 2015",
        "one logit in place of fc8's 2,622 identities; maps of other inputs than 224 pixels are pooled to 7x7",
    ),
    "hybrid": Entry("visual", "visual.hybrid:Hybrid", _JOINED, "own arrangement of the published networks"),
    "hybrid_tiny": Entry(
        "visual",
        "visual.hybrid:Hybrid",
        _JOINED,
        "MobileNetV3-Small and efficientnet_autoatt_tiny at 112 pixels: quick on a CPU",
        {"size": 112, "backbones": ("mobilenetv3_small", "efficientnet_autoatt_tiny"), "dense": 64},
    ),
}


def with_ssim(name: str) -> Entry:
    """The entry of `ssim(NAME)`."""
    return Entry(
        "visual",
        "visual.ssim:SSIM",
        "Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004; "
        f"{ENTRIES[name].paper}",
        f"own arrangement: {name} without its head, joined with a small CNN over the SSIM map of consecutive "
        "frames and with the mean and variance of that map",
    )

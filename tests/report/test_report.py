"""The HTML page: well formed, self-contained, escaped, complete for every kind of verdict."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from avdetect.inference.verdict import (
    Face,
    FaceBox,
    LipSync,
    Modality,
    Segment,
    Verdict,
    WeightsUsed,
    validate,
)
from avdetect.report import (
    FacePicture,
    ReportPictures,
    Sound,
    content_security_policy,
    render_page,
    write_report,
)

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b.mp4'
VOID = {"meta", "img", "br", "input", "link", "hr", "col"}
SELF_CLOSED_SVG = {"rect", "line", "path", "circle", "polyline", "polygon", "image"}


class Page(HTMLParser):
    """Collects text, tags and attributes; fails on tags that do not match."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SELF_CLOSED_SVG, tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> does not match"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def made(kind="video", **changes) -> Verdict:
    values = {
        "path": f"in/{kind}.mp4",
        "kind": kind,
        "label": "fake",
        "score": 0.94,
        "reason": None,
        "modalities": {
            "visual": Modality(0.2), "audio": Modality(0.97), "lipsync": LipSync(0.5, None, 80.0, 1.9)
        },
        "faces": [Face(0, 0.2, None, 0.0, 4.0, [FaceBox(0.0, [0, 0, 50, 50], 0.2)])],
        "segments": [Segment(float(i), i + 1.0, 0.1, 0.95 if i == 2 else 0.2, None) for i in range(5)],
        "manipulated": ["audio"],
        "thresholds": {"real_below": 0.3, "fake_above": 0.8},
        "media": {"container": "mov,mp4", "duration_s": 4.8, "video_codec": "h264", "width_px": 640,
                  "height_px": 360, "audio_codec": "aac", "sample_rate_hz": 48000, "channels": 1,
                  "sha256": "d0" * 32,
                  "video_start_s": 0.0, "audio_start_s": 0.023, "size_bytes": 1234567, "rotation_deg": 90,
                  "tags": {"container.encoder": "Lavf61.7.100"}},
        "weights": [WeightsUsed("mel_cnn_tiny", "audio", "ab" * 32, "Apache-2.0")],
        "bundle": {"name": "demo", "path": "runs/my run/bundle", "created": "2026-11-20"},
        "warnings": ["trained on drawn faces"],
        "timing_s": {"decode": 1.25},
    }  # fmt: skip
    return Verdict(**{**values, **changes})


def without(visual=None, audio=None, lipsync="lip-sync needs a face and a voice") -> dict:
    return {
        "visual": Modality(None, visual) if visual else Modality(0.9),
        "audio": Modality(None, audio) if audio else Modality(0.9),
        "lipsync": LipSync(None, lipsync),
    }


RATE = {"value": 0.22, "low": 0.2, "high": 0.25}
CARD = {
    "metrics": {"split": "test", "clips": {
        "fused": {"n_fake": 30, "n_real": 40, "reason": None, "roc_auc": {"value": 0.9, "low": 0.8, "high": 0.95},
                  "eer": RATE},
        "visual": {"n_fake": 9, "n_real": 8, "reason": None, "roc_auc": RATE, "eer": RATE | {"value": 0.4}},
    }},
    "known_failures": ["It knows no drawn faces."],
    "terms": "For research alone.",
}  # fmt: skip


def pictures() -> ReportPictures:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), np.uint8)
    offsets = np.arange(-15, 16) * 40.0
    return ReportPictures(
        faces=[FacePicture(0, 1.25, 0.31, crop, rng.random((7, 7))), FacePicture(0, 2.0, None, crop)],
        mel=rng.normal(-40, 10, (64, 480)),
        mel_hop_s=0.01,
        mel_max_hz=8000.0,
        mel_centres_hz=np.geomspace(60, 7900, 64),
        voice_map=rng.random((64, 480)),
        lips_map=np.linspace(0, 1, 100),
        lips_times_s=np.arange(100) / 25,
        sound=Sound("data:audio/mp4;base64,AAAA", 0.0, 4.8),
        map_notes=dict.fromkeys(("visual", "audio", "lipsync"), "What the map means."),
        card=CARD,
        sync_curve=1.2 - np.exp(-(((offsets - 80) / 70) ** 2)),
        sync_offsets_ms=offsets,
    )


UNKNOWN = dict(
    label="unknown",
    score=None,
    reason="no face found; no audio track",
    modalities=without("no face found", "no audio track"),
    faces=[],
    segments=[],
    manipulated=[],
)
KINDS = {
    "video": (made(), pictures()),
    "silent": (
        made(modalities=without(audio="no audio track"), manipulated=["visual"],
             segments=[Segment(0.0, 1.0, 0.9), Segment(1.0, 2.0, 0.4)]),
        ReportPictures(),
    ),
    "audio": (made("audio", modalities=without("a recording has no picture"), faces=[]), ReportPictures()),
    "image": (made("image", modalities=without(None, "images have no sound"), segments=[]), ReportPictures()),
    "unknown": (made(**UNKNOWN), ReportPictures()),
    "hostile": (
        made(path=HOSTILE, warnings=[HOSTILE], **{**UNKNOWN, "reason": HOSTILE},
             bundle={"name": HOSTILE, "path": HOSTILE},
             weights=[WeightsUsed(HOSTILE, HOSTILE, None, HOSTILE)],
             media={"container": HOSTILE, "sha256": HOSTILE, "tags": {HOSTILE: HOSTILE}}),
        ReportPictures(
            map_notes={"visual": HOSTILE, "audio": HOSTILE, "lipsync": HOSTILE},
            card={"known_failures": [HOSTILE], "data": [HOSTILE], "terms": HOSTILE, "measured": [
                {"what": HOSTILE, "clips": HOSTILE, "value": 0.5, "low": 0.4, "high": 0.6}]},
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_well_formed_and_self_contained(kind):
    verdict, shown = KINDS[kind]
    source = render_page([verdict], [shown])
    page = Page(source)
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/", "data:audio/mp4;")), (
                tag,
                attrs[name],
            )
    assert not re.search(r"https?://|@import|url\((?!#)", source)
    assert len(page.named("h1")) == 1 and page.named("html")[0]["lang"] == "en"
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(attrs.get("alt") for attrs in page.named("img"))


def between(tag: str, source: str) -> str:
    (found,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
    return found


def test_the_policy_names_the_one_style_and_the_one_script():
    source = render_page([made()], [pictures()])
    policy = content_security_policy()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(between(tag, source).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy and "form-action 'none'" in policy
    page = Page(source)
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.named("meta")
    assert not any("style" in attrs for _, attrs in page.tags)
    assert "form-action 'self'" in content_security_policy(form_action="'self'")


def test_a_web_page_can_stand_around_the_report():
    around = {"top": Markup("<nav>before</nav>"), "bottom": Markup("<footer>after</footer>")}
    source = render_page([made()], [pictures()], **around, policy="default-src 'self'")
    words = Page(source).text
    assert words.startswith("before avdetect") and words.endswith("after")
    assert "default-src &#39;self&#39;" in source and content_security_policy() not in source


def test_hostile_text_is_shown_and_never_run():
    page = Page(render_page(*[[part] for part in KINDS["hostile"]]))
    assert page.text.count("<script>alert(1)</script>") >= 14 and len(page.named("script")) == 1
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>\\u202e\\x1b.mp4" in page.text
    assert page.named("img") == []


def test_video_page_shows_all_evidence():
    page = Page(render_page([made()], [pictures()]))
    for needed in (
        "Likely manipulated: the voice", "0.94", "What the score means", "suspicious at 0:02–0:03",
        "sound 80 ms late, confidence 1.9", "Face 0 at 0:01.2: score 0.31", "stretched for each picture by itself",
        "no map",
        "What the map means. It shows what the network used",
        "8 kHz", "Lowest at +80 ms", "1.23 MB (1,234,567 bytes)",
        "turned by 90°", "starts +23 ms from the first frame", "d0" * 32, "ab" * 32, "Apache-2.0",
        "trained on drawn faces", "cannot tell",
        "avdetect predict in/video.mp4 --bundle 'runs/my run/bundle' --json",
        "torch", "wrong about 22 of 100 genuine clips", "interval 20 to 25", "AUC 0.900 [0.800, 0.950], EER 0.220",
        "It knows no drawn faces.", "For research alone.", "container.encoder Lavf61.7.100",
        "The sound from 0:00 to 0:05", "Its map", "detector demo, made 2026-11-20: analysis of video.mp4, SHA-256 d0d0",
    ):  # fmt: skip
        assert needed in page.text, needed
    assert len(page.named("img")) == 3 and len(page.named("image")) == 2  # crop, overlay, crop; mel, its map
    Image.open(BytesIO(base64.b64decode(page.named("img")[0]["src"].split(",")[1]))).verify()


def test_missing_parts_are_named_with_their_reason():
    text = Page(render_page([KINDS["silent"][0]], [ReportPictures()])).text
    assert text.count("no audio track") == 3  # in the overview, the timeline and the voice section
    assert "No face pictures were kept for this report" in text
    image = Page(render_page([KINDS["image"][0]], [ReportPictures()])).text
    assert "images have no sound" in image and "Over time" not in image
    unknown = Page(render_page([KINDS["unknown"][0]], [ReportPictures()]))
    assert (
        "Not judged Nothing is said about this file" in unknown.text and "Why: no face found" in unknown.text
    )
    assert "What the score means" not in unknown.text


def test_several_files_get_an_index(tmp_path):
    chosen = [KINDS[kind] for kind in ("video", "audio", "unknown")]
    write_report([v for v, _ in chosen], [p for _, p in chosen], tmp_path / "all.html")
    page = Page((tmp_path / "all.html").read_text(encoding="utf-8"))
    links = [attrs["href"][1:] for attrs in page.named("a")]
    ids = [attrs["id"] for attrs in page.named("article")]
    assert (
        links == [*ids, ids[0], ids[0]] and len(ids) == 3
    )  # the index, and what is told of the detector once
    told = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert told == [verdict.to_dict() for verdict, _ in chosen]
    assert len(page.named("h1")) == 1
    with pytest.raises(ValueError, match="one of each"):
        write_report([made(), made()], [ReportPictures()], tmp_path / "no.html")
    with pytest.raises(ValueError):
        write_report([], [], tmp_path / "no.html")
    assert {path.name for path in tmp_path.iterdir()} == {"all.html", "all.json"}
    with pytest.raises(ValueError, match="name it .html"):
        write_report(made(), ReportPictures(), tmp_path / "all.json")


def test_writing_is_atomic(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def full_disk(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("avdetect.report.pagefile.os.replace", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_report(made(), ReportPictures(), target)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    write_report(made(), ReportPictures(), target)
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    told = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    validate(told)
    assert told == made().to_dict() and "report.json" in Page(target.read_text(encoding="utf-8")).text


def test_error_rates_are_those_of_what_was_judged():
    silent = KINDS["silent"][0]
    text = Page(render_page([silent], [ReportPictures(card=CARD)])).text
    assert "Judging by the face alone" in text and "wrong about 40 of 100 genuine clips" in text
    unmeasured = Page(render_page([silent], [ReportPictures()])).text
    assert "How often it is wrong" not in unmeasured and "how often it is wrong is not known" in unmeasured
    unknown = Page(render_page([KINDS["unknown"][0]], [ReportPictures(card=CARD)])).text
    assert "How often it is wrong" not in unknown  # nothing was said of this file that could be wrong


def test_what_the_script_shows_stands_in_the_page():
    page = Page(render_page([made()], [pictures()]))
    plots = {attrs["data-name"]: attrs for _, attrs in page.tags if "data-rows" in attrs}
    rows = json.loads(next(a for _, a in page.tags if "data-rows" in a)["data-rows"])
    assert (
        rows[2] == [2.0, 3.0, "0:02.0–0:03.0: Face 0.10, Voice 0.95, Lip-sync not judged"] and len(rows) == 5
    )
    curve = plots["Offset of the sound in milliseconds"]
    assert (float(curve["data-from"]), float(curve["data-to"])) == (-600.0, 600.0)
    assert [60.0, 100.0, "+80 ms: distance 0.200"] in json.loads(curve["data-rows"])
    played = next(a["data-spans"] for _, a in page.tags if "data-spans" in a)
    assert json.loads(played) == [["Play 0:02–0:03 (voice)", 2.0, 3.0]]


def test_text_colours_have_aa_contrast():
    """WCAG 2.1 AA: 4.5 to 1 for text, in both colour schemes, on every ground that it stands on."""
    css = render_page([made()], [ReportPictures()])
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css.split("@media screen")[0]))
    dark = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css.split("@media screen")[1].split("}\n}")[0]))
    assert len(light) == 18 and set(dark) == set(light)
    for scheme in (light, dark):
        for ink, grounds in {
            "ink": ("page", "paper", "lane", "fake-wash", "real-wash", "unsure-wash", "none-wash"),
            "muted": ("page", "paper", "lane"),
            "fake": ("paper", "fake-wash"),
            "unsure": ("paper", "unsure-wash"),
            "real": ("paper", "real-wash"),
            "none": ("paper", "none-wash"),
            "link": ("paper",),
        }.items():
            for ground in grounds:
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)
        for bar in ("fake-bar", "unsure-bar", "real-bar"):  # drawings need 3 to 1
            assert contrast(scheme[bar], scheme["lane"]) >= 3, (bar, scheme)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)

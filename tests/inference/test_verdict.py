"""The verdict's JSON form, its schema, and its words."""

import json

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from avdetect.errors import DataError
from avdetect.inference.verdict import (
    MEDIA_FACTS,
    Face,
    FaceBox,
    LipSync,
    Modality,
    Segment,
    Verdict,
    WeightsUsed,
    clock,
    headline,
    json_schema,
    label_of,
    offset_text,
    one_line,
    printable,
    render,
    spans_text,
    suspicious_spans,
    to_text,
    validate,
)

LIMITS = {"real_below": 0.3, "fake_above": 0.8}


def made(**changes) -> Verdict:
    values = {
        "path": "clips/talk.mp4",
        "kind": "video",
        "label": "fake",
        "score": 0.94,
        "reason": None,
        "modalities": {
            "visual": Modality(0.2),
            "audio": Modality(0.97),
            "lipsync": LipSync(0.5, None, offset_ms=80.0, confidence=1.93),
        },
        "faces": [
            Face(0, 0.2, None, 0.0, 3.5, [FaceBox(0.0, [10, 20, 110, 140], 0.2)]),
            Face(1, None, "seen too briefly", 1.0, 1.25, [FaceBox(1.0, [0, 0, 40, 40])]),
        ],
        "segments": [Segment(float(i), i + 1.0, 0.1, 0.95 if i in (1, 2) else 0.2, None) for i in range(4)],
        "manipulated": ["audio"],
        "thresholds": dict(LIMITS),
        "media": {"container": "mov,mp4", "duration_s": 4.0, "sha256": "d0" * 32, "fps": 29.97},
        "weights": [WeightsUsed("mel_cnn_tiny", "audio", "ab" * 32, "Apache-2.0")],
        "bundle": {"name": "demo", "path": "runs/x/bundle"},
        "warnings": ["trained on drawn faces"],
        "timing_s": {"decode": 1.2},
    }
    return Verdict(**{**values, **changes})


def unknown(**changes) -> Verdict:
    nothing = {
        "visual": Modality(None, "no face found"),
        "audio": Modality(None, "no audio track"),
        "lipsync": LipSync(None, "lip-sync needs a face and a voice"),
    }
    values = {"label": "unknown", "score": None, "reason": "no face found", "modalities": nothing}
    return made(**{**values, "faces": [], "segments": [], "manipulated": [], **changes})


@pytest.mark.parametrize(
    ("score", "label"),
    [
        (0.0, "real"),
        (0.2999, "real"),
        (0.3, "uncertain"),
        (0.8, "uncertain"),
        (0.8001, "fake"),
        (None, "unknown"),
        (float("nan"), "unknown"),
    ],
)
def test_label_of(score, label):
    assert label_of(score, **LIMITS) == label


def test_to_dict_is_valid_and_comes_back():
    values = json.loads(json.dumps(made().to_dict(), allow_nan=False))
    validate(values)
    assert Verdict.from_dict(values) == Verdict.from_dict(made().to_dict())
    assert Verdict.from_dict(values).to_dict() == values
    assert isinstance(Verdict.from_dict(values).modalities["lipsync"], LipSync)


def test_keys_never_disappear():
    full, empty = made().to_dict(), unknown(media={}, bundle={}).to_dict()
    assert list(full) == list(empty) and full["schema"] == "avdetect.verdict/1"
    assert list(empty["media"]) == list(MEDIA_FACTS)
    assert empty["media"]["fps"] is None and empty["bundle"] == {"name": None, "path": None, "created": None}
    assert list(empty["modalities"]["lipsync"]) == ["score", "reason", "offset_ms", "confidence"]
    validate(empty)


def test_numpy_and_non_finite_numbers_become_json():
    box = FaceBox(0.0, np.arange(4, dtype=np.float32))
    verdict = made(
        score=np.float32(0.94),
        faces=[Face(np.int64(0), np.float64(0.5), None, 0.0, 1.0, [box])],
        segments=[Segment(0.0, 1.0, np.float32("nan"), float("inf"), None)],
    )
    values = verdict.to_dict()
    json.dumps(values, allow_nan=False)
    validate(values)
    assert values["faces"][0]["boxes"][0]["box_px"] == [0.0, 1.0, 2.0, 3.0]
    assert [values["segments"][0][name] for name in ("visual", "audio", "lipsync")] == [None, None, None]


def test_schema_is_itself_valid_and_knows_every_field():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"].endswith("2020-12/schema")
    assert set(json_schema()["properties"]) == set(made().to_dict())
    assert set(json_schema()["$defs"]["media"]["properties"]) == set(MEDIA_FACTS)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda v: v.update(score=1.2), "score"),
        (lambda v: v.update(extra=1), "top level"),
        (lambda v: v.pop("faces"), "top level"),
        (lambda v: v.update(label="unknown"), "score"),
        (lambda v: v.update(score=None), "score"),
        (lambda v: v["modalities"]["visual"].update(score=None), "modalities/visual/reason"),
        (lambda v: v["faces"][0]["boxes"][0].update(box_px=[1, 2, 3]), "box_px"),
        (lambda v: v["weights"][0].update(sha256="abc"), "sha256"),
        (lambda v: v["manipulated"].append("face"), "manipulated"),
        (lambda v: v["media"].update(width=3), "media"),
        (lambda v: v["segments"][0].update(start_s=-1), "start_s"),
    ],
)
def test_schema_refuses(spoil, place):
    values = made().to_dict()
    spoil(values)
    with pytest.raises(DataError, match=place):
        validate(values)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.update(schema="avdetect.verdict/0"),
        lambda v: v.pop("faces"),
        lambda v: v.update(extra=1),
        lambda v: v["segments"][0].update(extra=1),
        lambda v: v["modalities"].pop("audio"),
        lambda v: v["media"].update(width=3),
    ],
)
def test_from_dict_refuses(spoil):
    values = made().to_dict()
    spoil(values)
    with pytest.raises(DataError):
        Verdict.from_dict(values)


def test_suspicious_spans_join_neighbours_only():
    hot = {1, 2, 5}
    verdict = made(segments=[Segment(float(i), i + 1.0, audio=0.9 if i in hot else 0.1) for i in range(7)])
    assert suspicious_spans(verdict, "audio") == [(1.0, 3.0), (5.0, 6.0)]
    assert suspicious_spans(verdict, "visual") == []
    assert spans_text(suspicious_spans(verdict, "audio")) == "0:01-0:03, 0:05-0:06"
    assert spans_text([(i, i + 1) for i in range(0, 14, 2)]).endswith("0:06-0:07 and 3 more")


def test_words():
    assert headline(made()) == "Likely manipulated: the voice"
    assert headline(made(manipulated=["visual", "audio", "lipsync"])).endswith(
        "the face, the voice and the match of lips and voice"
    )
    assert headline(made(manipulated=[])) == "Likely manipulated"
    assert headline(made(label="real", score=0.1)) == "No signs of manipulation found"
    assert headline(unknown()) == "Not judged: no face found"
    assert one_line(made()) == "clips/talk.mp4: Likely manipulated: the voice (score 0.94)"
    assert clock(59.96, 1) == "1:00.0" and clock(3725) == "1:02:05" and clock(7.25, 1) == "0:07.2"
    assert offset_text(LipSync(0.5, None, -200.0, 0.5)) == "sound 200 ms early, confidence 0.5"
    assert offset_text(LipSync(0.5, None, 40.0)) == "sound in step with the lips (+40 ms)"
    assert offset_text(LipSync(None, "no face")) == ""


def test_text_fits_80_columns_and_says_everything():
    text = to_text(made())
    assert max(map(len, text.splitlines())) <= 80
    for needed in (
        "clips/talk.mp4", "Likely manipulated: the voice", "0.94", "manipulated; suspicious at 0:01-0:03",
        "sound 80 ms late", "seen too briefly", "trained on drawn faces", "mel_cnn_tiny",
    ):  # fmt: skip
        assert needed in " ".join(text.split())
    assert text.isascii()


def test_text_of_a_part_against_the_verdict():
    text = " ".join(to_text(made(label="real", score=0.2)).split())
    assert "No signs of manipulation found" in text
    assert "Taken alone, the voice would count as manipulated" in text


def test_unknown_gives_reasons_and_no_number():
    text = to_text(unknown())
    assert "not judged: no audio track" in text and "0." not in text.split("Detector")[0].replace("clips", "")


def test_hostile_name_is_neither_markup_nor_control_sequence(capsys):
    verdict = made(path="[red]\x1b[2J\u202e4pm.\udcff\n.mp4", warnings=["[bold]x[/bold]\x07"])
    render(verdict, Console(width=120, force_terminal=True))
    shown = capsys.readouterr().out
    assert "[red]\\x1b[2J\\u202e4pm.\\udcff\\n.mp4" in shown and "[bold]x[/bold]\\x07" in shown
    assert "\x1b[2J" not in shown and "\u202e" not in shown
    assert printable("Zoë 日本.mp4") == "Zoë 日本.mp4"

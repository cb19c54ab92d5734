"""The drawings and pictures of the report: where their marks stand, and what they leave out."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from avdetect.inference.verdict import LipSync, Modality, Segment, Verdict
from avdetect.report import FacePicture, ReportPictures
from avdetect.report.drawings import lip_strip, spectrogram, sync_curve, time_ticks, timeline
from avdetect.report.pictures import mel_overlay_uri, mel_uri, overlay_uri

FIVE = [Segment(float(i), i + 1.0, 0.1, 0.95 if i == 2 else 0.2, None) for i in range(5)]


def judged(segments: list[Segment]) -> Verdict:
    """Of a video whose voice is manipulated."""
    return Verdict(
        path="in.mp4",
        kind="video",
        label="fake",
        score=0.94,
        reason=None,
        modalities={
            "visual": Modality(0.2),
            "audio": Modality(0.97),
            "lipsync": LipSync(None, "no face speaks"),
        },
        faces=[],
        segments=segments,
        manipulated=["audio"],
        thresholds={"real_below": 0.3, "fake_above": 0.8},
        media={},
        weights=[],
        bundle={},
    )


def of_sound() -> ReportPictures:
    """A spectrogram of 4.8 s and a curve whose minimum is at 80 ms."""
    offsets = np.arange(-15, 16) * 40.0
    return ReportPictures(
        mel=np.random.default_rng(0).normal(-40, 10, (64, 480)),
        mel_hop_s=0.01,
        mel_max_hz=8000.0,
        mel_centres_hz=np.geomspace(60, 7900, 64),
        sync_curve=1.2 - np.exp(-(((offsets - 80) / 70) ** 2)),
        sync_offsets_ms=offsets,
    )


def test_timeline_geometry():
    drawn = timeline(judged(FIVE))
    assert drawn.duration_s == 5.0 and [tick.text for tick in drawn.ticks] == [f"0:0{i}" for i in range(6)]
    audio = next(lane for lane in drawn.lanes if lane.modality == "audio")
    assert audio.marks == [(40.0, 20.0)] and audio.spans == [(2.0, 3.0)]
    assert [bar.label for bar in audio.bars] == ["real", "real", "fake", "real", "real"]
    assert audio.bars[2].height == 95.0 and drawn.fake_y == pytest.approx(20.0)
    lipsync = drawn.lanes[2]
    assert not lipsync.judged and {bar.label for bar in lipsync.bars} == {"unknown"}


def test_no_timeline_where_no_second_was_judged():
    assert timeline(judged([])) is None
    assert timeline(judged([Segment(0.0, 1.0), Segment(1.0, 2.0)])) is None
    assert timeline(judged([Segment(0.0, 1.0), Segment(1.0, 2.0, audio=0.0)])) is not None


def test_long_clips_are_pooled_by_their_highest_second():
    segments = [Segment(float(i), i + 1.0, audio=0.95 if i == 1001 else 0.1) for i in range(7200)]
    drawn = timeline(judged(segments))
    assert len(drawn.rows) == 240 and drawn.pooled == 30
    audio = drawn.lanes[1]
    assert [bar.label for bar in audio.bars].index("fake") == 1001 // 30
    assert audio.spans == [(1001.0, 1002.0)]  # the list of seconds stays exact


@pytest.mark.parametrize("duration", [0.4, 1.0, 9.9, 12.4, 59.0, 600.0, 3600.0, 20000.0])
def test_time_ticks_are_few_and_inside(duration):
    ticks = time_ticks(duration)
    assert 2 <= len(ticks) <= 8 and ticks[0].at == 0.0 and ticks[-1].at <= 100.0
    assert len({tick.text for tick in ticks}) == len(ticks)


def test_spectrogram_lies_on_the_timeline_and_low_tones_at_the_bottom():
    shown = of_sound()
    shown.mel = np.full((64, 480), -70.0)
    shown.mel[:8] = 0.0
    drawn = spectrogram(shown, axis_s=9.6)
    assert drawn.width == 50.0 and not drawn.whole and spectrogram(shown, axis_s=4.8).whole
    ticks = {tick.text: tick.at for tick in drawn.frequency_ticks}
    assert ticks["8 kHz"] == 0.0 and ticks["125 Hz"] > ticks["1 kHz"] > ticks["4 kHz"]
    image = Image.open(BytesIO(base64.b64decode(drawn.uri.split(",")[1]))).convert("L")
    pixels = np.asarray(image)
    assert pixels.shape == (64, 480) and pixels[-8:].min() > 200 and pixels[:-8].max() < 60


def test_mel_keeps_short_sounds_of_long_recordings_and_stands_silence():
    mel = np.full((4, 100_000), -70.0)
    mel[:, 50_000] = 0.0
    mel[:, 7] = -np.inf
    image = Image.open(BytesIO(base64.b64decode(mel_uri(mel).split(",")[1]))).convert("L")
    assert image.width <= 1200 and np.asarray(image).max() > 200


def test_the_map_of_a_voice_is_brightest_where_it_is_highest():
    values = np.zeros((64, 2400))
    values[10, 1800:1900] = 3.0
    image = Image.open(
        BytesIO(base64.b64decode(mel_overlay_uri(np.full((64, 2400), -80.0), values).split(",")[1]))
    )
    pixels = np.asarray(image.convert("L"), float)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert abs(row - (63 - 10)) <= 1 and 1800 / 2400 <= column / pixels.shape[1] < 1900 / 2400
    assert mel_overlay_uri(np.zeros((4, 8)), np.ones((4, 8))) is None


def test_a_later_minute_stands_at_its_place():
    shown = of_sound()
    shown.mel_start_s = 4.8
    drawn = spectrogram(shown, axis_s=19.2)
    assert (drawn.x, drawn.width, drawn.whole) == (25.0, 25.0, False)


def test_lip_strip_keeps_the_highest_moment_of_a_long_clip():
    shown = ReportPictures(lips_map=np.zeros(2500), lips_times_s=np.arange(2500) / 25)
    assert lip_strip(shown, 100.0) is None
    shown.lips_map[1250] = 0.7
    strip = lip_strip(shown, 200.0)
    high = [point.split(",")[0] for point in strip.points.split() if point.endswith(",0.0")]
    assert strip.axis_s == 200.0 and float(high[0]) <= 25.0 <= float(high[1])
    assert [row[2].endswith("100 % of the highest") for row in json.loads(strip.told)].count(True) == 1


def test_sync_curve_marks_the_minimum():
    drawn = sync_curve(of_sound())
    assert drawn.best_ms == 80.0 and drawn.zero_x == 50.0
    assert drawn.best_x == pytest.approx(100 * 680 / 1200, abs=0.01)
    assert [tick.text for tick in drawn.ticks if not tick.minor] == ["-400", "0", "+400"]
    lowest = max(float(point.split(",")[1]) for point in drawn.points.split())
    assert drawn.best_y == pytest.approx(lowest, abs=0.01)
    assert sync_curve(ReportPictures()) is None


def test_attention_overlay_is_brightest_where_the_network_looked():
    crop = np.full((80, 80, 3), 40, np.uint8)
    attention = np.zeros((8, 8))
    attention[1, 6] = 0.3
    image = Image.open(BytesIO(base64.b64decode(overlay_uri(crop, attention).split(",")[1]))).convert("L")
    row, column = np.unravel_index(np.asarray(image).argmax(), (80, 80))
    assert (row // 10, column // 10) == (1, 6)
    assert overlay_uri(crop, np.full((8, 8), 0.5)) is None


def test_pictures_refuse_wrong_shapes():
    with pytest.raises(ValueError, match="uint8"):
        FacePicture(0, 0.0, None, np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="mel_hop_s"):
        ReportPictures(mel=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="one centre per band"):
        ReportPictures(mel=np.zeros((4, 4)), mel_hop_s=0.01, mel_max_hz=1.0, mel_centres_hz=np.zeros(3))
    with pytest.raises(ValueError, match="voice_map and mel"):
        ReportPictures(voice_map=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="lips_map"):
        ReportPictures(lips_map=np.zeros(4))
    with pytest.raises(ValueError, match="same length"):
        ReportPictures(sync_curve=np.zeros(31), sync_offsets_ms=np.zeros(3))

"""What a report shows of an analysis: all faces with maps, a minute of sound, the offset curve."""

import base64
from dataclasses import replace
from io import BytesIO

import av
import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.report import gather_pictures, render_page
from avdetect.report.sound import sound_uri

RATE = 16000


def test_every_face_has_crops_and_maps_the_deciding_one_first(two_faces):
    analysis, pictures = two_faces
    shown = [face.track_id for face in pictures.faces]
    first = analysis.evidence.face.track_id
    assert shown == [first] * 4 + [1 - first] * 4
    tracks = {one.id: one for one in analysis.clip.tracks}
    for face in pictures.faces:
        place = int(np.flatnonzero(tracks[face.track_id].crop_times == face.time_s)[0])
        np.testing.assert_array_equal(face.crop, tracks[face.track_id].crops[place])
        boxes = analysis.verdict.faces[face.track_id].boxes
        assert face.score == pytest.approx(boxes[place].score)
        assert face.attention.shape == (112, 112) and face.attention.min() >= 0
    assert "evidence for fake" in pictures.map_notes["visual"]


def test_sound_spectrogram_and_map_share_one_clock(two_faces):
    _, pictures = two_faces
    assert pictures.mel.shape == (80, 240) == pictures.voice_map.shape
    assert (pictures.mel_start_s, pictures.mel_hop_s, pictures.mel_max_hz) == (0.0, 0.01, 8000.0)
    assert (pictures.sound.start_s, pictures.sound.length_s) == (0.0, 2.4)
    assert len(pictures.lips_map) == len(pictures.lips_times_s) == 60


def test_a_tone_stands_at_its_pitch_and_its_time(detector, clip):
    heard = clip([], 3.0, "audio")
    heard.audio[:] = 0
    heard.audio[RATE : 2 * RATE] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    pictures = gather_pictures(detector.judge(heard), detector.bundle)
    band, frame = np.unravel_index(pictures.mel.argmax(), pictures.mel.shape)
    assert pictures.mel_centres_hz[band] == pytest.approx(1000, rel=0.06) and 100 <= frame < 200


def test_a_face_that_was_not_judged_is_shown_without_a_map(two_faces, detector):
    analysis, _ = two_faces
    evidence = replace(
        analysis.evidence, tracks=[face for face in analysis.evidence.tracks if face.track_id == 0]
    )
    pictures = gather_pictures(replace(analysis, evidence=evidence), detector.bundle)
    (other,) = [face for face in pictures.faces if face.track_id == 1]
    assert other.score is None and other.attention is None and other.time_s == 1.0


def test_where_no_map_can_be_drawn_the_reason_stands_in_the_page(detector, clip):
    analysis = detector.judge(clip([], 1.0, "audio"))

    def refuse(*_, **__):
        raise ConfigError("this network has no map: use another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avdetect.report.gather.explain", refuse)
        pictures = gather_pictures(analysis, detector.bundle)
    assert pictures.voice_map is None and pictures.mel is not None
    assert "No map was drawn: this network has no map: use another" in render_page(
        [analysis.verdict], [pictures]
    )


def test_a_long_recording_shows_the_minute_that_was_explained(detector, clip):
    analysis = detector.judge(clip([], 70.0, "audio"))
    voice = analysis.evidence.voice
    late = replace(voice, window_logits=np.where(voice.window_times >= 8.0, 5.0, -5.0))
    pictures = gather_pictures(
        replace(analysis, evidence=replace(analysis.evidence, voice=late)), detector.bundle
    )
    assert pictures.sound.start_s == pictures.mel_start_s > 0
    assert 59 < pictures.sound.length_s <= 60 and pictures.mel.shape[1] <= 6000
    assert len(pictures.sound.uri) < 400_000


def test_the_sound_in_the_page_is_the_sound():
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    kind, _, content = sound_uri(tone, RATE).partition(",")
    assert kind == "data:audio/mp4;base64"
    with av.open(BytesIO(base64.b64decode(content))) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(heard) == pytest.approx(2 * RATE, abs=2200)
    spectrum = np.abs(np.fft.rfft(heard[: 2 * RATE] * np.hanning(len(heard[: 2 * RATE]))))
    assert spectrum.argmax() / 2 == pytest.approx(440, abs=3)

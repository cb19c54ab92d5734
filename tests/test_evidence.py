"""What the encoders say of clips, with encoders that make it easy to see what they were shown."""

import numpy as np
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.evidence import SYNC_STRETCH_S, Evidence, TrackEvidence, collect_evidence, feature_dims
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo

SETTINGS = ClipSettings(crop_size=112)


@pytest.fixture(scope="module")
def encoders():
    torch.manual_seed(0)
    names = {"visual": "efficientnet_autoatt_tiny", "audio": "mel_cnn_tiny", "lipsync": "lipsync_tiny"}
    return {modality: create_encoder(name).eval() for modality, name in names.items()}


def track(number=0, detections=9, mouths=60, start=0):
    rng = np.random.default_rng(number)
    times = np.arange(detections) * SETTINGS.detect_interval_s
    return FaceTrack(
        id=number,
        times=times,
        boxes=np.tile(np.float32([10, 10, 60, 60]), (detections, 1)),
        probs=np.ones(detections, np.float32),
        crop_times=times,
        crops=rng.integers(0, 255, (detections, 112, 112, 3), dtype=np.uint8),
        mouth_start=start,
        mouths=rng.integers(0, 255, (mouths, 48, 48), dtype=np.uint8),
    )


def clip(tracks=(), seconds=2.4, audio="noise", **reasons):
    sound = None
    if audio is not None:
        sound = np.random.default_rng(5).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
        sound *= audio != "silence"
    return Clip(
        "x.mp4", "video", seconds, MediaInfo("mp4", 1, "0"), SETTINGS, list(tracks), sound, dict(reasons)
    )


def test_everything_is_judged(encoders):
    evidence = collect_evidence(clip([track()]), encoders)
    assert evidence.reasons == {} and len(evidence.face.crop_logits) == 9
    sizes = {name: tuple(map(len, parts)) for name, parts in evidence.features().items()}
    assert sizes == feature_dims(encoders)
    assert all(np.isfinite(np.concatenate(parts)).all() for parts in evidence.features().values())


def test_sync_is_what_the_encoder_says_of_the_whole_track(encoders):
    one, encoder = clip([track()]), encoders["lipsync"]
    sync = collect_evidence(one, encoders).sync
    with torch.inference_mode():
        inputs = encoder.preprocess(one.tracks[0].mouths, 0, one.audio)
        np.testing.assert_allclose(sync.embedding, encoder.embed(*inputs)[0].numpy(), atol=1e-5)
        assert sync.logit == pytest.approx(encoder(*inputs).item(), abs=1e-5)


def test_track_logit_is_the_mean_over_its_crops(encoders):
    one = track()
    evidence = collect_evidence(clip([one]), encoders)
    with torch.inference_mode():
        logits = encoders["visual"](encoders["visual"].preprocess(one.crops))
    assert evidence.face.logit == pytest.approx(logits.mean().item(), abs=1e-5)


def test_missing_parts_have_reasons(encoders):
    nothing = collect_evidence(clip(audio=None, visual="no face found in 9 sampled frames"), encoders)
    assert nothing.reasons["visual"] == "no face found in 9 sampled frames"
    assert nothing.reasons["audio"] == "no audio track"
    assert "no face found" in nothing.reasons["lipsync"] and "missing" in nothing.reasons["lipsync"]
    assert set(nothing.features().values()) == {None}
    silent = collect_evidence(clip([track()], audio="silence"), encoders)
    assert silent.reasons["audio"] == silent.reasons["lipsync"] == "the audio track is silent"
    short = collect_evidence(clip([track(mouths=10)]), encoders)
    assert "0.6 s" in short.reasons["lipsync"]


def test_a_face_that_is_seen_in_a_silent_part_is_not_compared(encoders):
    late = clip([track()], seconds=6.0)
    late.audio[: 3 * 16000] = 0.0  # the face is gone before anything is heard
    evidence = collect_evidence(late, encoders)
    assert evidence.sync is None and evidence.face is not None and evidence.voice is not None
    assert evidence.reasons == {"lipsync": "nothing is heard while a face is seen"}


def test_absent_encoders_are_said(encoders):
    evidence = collect_evidence(clip([track()]), {"audio": encoders["audio"]})
    assert (
        "no visual encoder" in evidence.reasons["visual"]
        and "no lip-sync encoder" in evidence.reasons["lipsync"]
    )
    assert evidence.voice is not None


def test_the_most_suspicious_face_decides():
    tracks = [
        TrackEvidence(n, np.zeros(3), np.full(3, logit), np.zeros(4))
        for n, logit in enumerate([-1.0, 2.0, 0.5])
    ]
    assert Evidence(tracks, None, None).face.track_id == 1
    assert Evidence([], None, None).face is None


def test_long_sound_is_judged_in_stretches_as_a_whole_is(encoders):
    encoder = encoders["audio"]
    long = clip(seconds=300.7)
    evidence = collect_evidence(long, {"audio": encoder})
    windows, times = encoder.preprocess(long.audio)
    assert evidence.voice.window_times == pytest.approx(times)
    with torch.inference_mode():
        last = encoder(windows[-1:]).item()
    assert evidence.voice.window_logits[-1] == pytest.approx(last, abs=1e-4)


def test_long_tracks_are_compared_in_stretches(encoders):
    seconds = SYNC_STRETCH_S + 10.0
    frames = round(seconds * 25)
    evidence = collect_evidence(
        clip([track(detections=280, mouths=frames)], seconds=seconds), {"lipsync": encoders["lipsync"]}
    )
    sync = evidence.sync
    assert sync.second_times[-1] == pytest.approx(69.0) and len(sync.curve) == 31


def test_survives_a_round_trip_on_disk(encoders, tmp_path):
    evidence = collect_evidence(clip([track(0), track(1)]), encoders)
    torch.save(evidence.to_dict(), tmp_path / "e.pt")
    again = Evidence.from_dict(torch.load(tmp_path / "e.pt", weights_only=True))
    for name, parts in evidence.features().items():
        for one, other in zip(parts, again.features()[name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert again.frame_logits() == evidence.frame_logits()


def test_a_lone_picture_is_not_judged_by_a_network_that_compares_frames():
    torch.manual_seed(0)
    encoder = {"visual": create_encoder("ssim(efficientnet_autoatt_tiny)").eval()}
    alone = collect_evidence(clip([track(detections=1)]), encoder)
    assert alone.face is None and alone.features()["visual"] is None
    assert "compares consecutive frames, and no face is seen in two" in alone.reasons["visual"]
    both = collect_evidence(clip([track(0, detections=1), track(1, detections=3)]), encoder)
    assert [one.track_id for one in both.tracks] == [1] and "visual" not in both.reasons

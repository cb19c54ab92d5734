"""Inputs that a detector was not made for get no score, with a reason; the others are judged as before."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avdetect import Detector
from avdetect.errors import WeightsError
from avdetect.evidence import Evidence, SyncEvidence, TrackEvidence, VoiceEvidence
from avdetect.inference import load_bundle, save_bundle
from avdetect.inference.novelty import DOUBTFUL, STRANGE_FACE, STRANGE_SOUND, Mixture, Novelty, Screened, View
from avdetect.inference.scoring import calibrated_scores, fused_logits, verdict_label
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo
from avdetect.media.traits import face_traits, sound_traits

TRAITS = 4


@pytest.fixture(scope="module")
def view() -> View:
    """Learnt from vectors of mean 0 and deviation 1: 3 is doubted, 6 is refused (in every trait)."""
    rows = np.random.default_rng(0).standard_normal((2000, TRAITS))
    mixture = Mixture.fit(rows, 1, 0)
    doubted, refused = mixture.surprise(np.array([[2.5] * TRAITS, [5.0] * TRAITS]))
    return View(mixture, float(doubted), float(refused))


@pytest.fixture(scope="module")
def novelty(view) -> Novelty:
    return Novelty({"face": view, "sound": view}, smallest_face_px=40.0)


def traits(value: float) -> np.ndarray:
    return np.full(TRAITS, value, np.float32)


def face(number=0, value=0.0, logit=0.0, side=100.0) -> TrackEvidence:
    logits = np.full(2, logit, np.float32)
    return TrackEvidence(number, np.arange(2.0), logits, np.zeros(3), side, traits(value))


def voice(windows: int) -> VoiceEvidence:
    """Windows of 2 s every 2 s, whose logits and embeddings tell their number."""
    numbers = np.arange(windows, dtype=np.float32)
    return VoiceEvidence(2 * numbers, 2.0, numbers, numbers.mean(keepdims=True), numbers[:, None])


def sync(number=0) -> SyncEvidence:
    return SyncEvidence(number, 0.5, 0, 0.0, 1.0, np.zeros(31), np.zeros(1), np.zeros(1), np.zeros(3))


def sound(*values: float) -> np.ndarray:
    return np.stack([traits(value) for value in values])


def evidence(*tracks: TrackEvidence, heard=(0.0, 0.0, 0.0), lips=True) -> Evidence:
    return Evidence(list(tracks), voice(len(heard)), sync() if lips else None, {}, sound(*heard))


# -- the density ----------------------------------------------------------------------------------------------


def test_surprise_is_minus_the_log_density():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(1)
    rows = rng.standard_normal((5000, 3)) @ rng.standard_normal((3, 3)) + [5, -2, 100]
    mixture = Mixture.fit(rows, 1, 0)
    # the fit adds a ridge to the standardised variances, and its log density is that of standardised rows
    z = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    law = multivariate_normal(np.zeros(3), np.cov(z.T, bias=True) + 0.02 * np.eye(3))
    assert mixture.surprise(rows[:50]) == pytest.approx(-law.logpdf(z[:50]), abs=1e-3)


def test_several_gaussians_know_what_lies_between_them():
    rng = np.random.default_rng(2)
    rows = np.concatenate([rng.normal(centre, 0.1, (500, 2)) for centre in (-3, 3)])
    between, inside = [[0.0, 0.0]], [[3.0, 3.0]]
    one, two = Mixture.fit(rows, 1, 0), Mixture.fit(rows, 2, 0)
    assert two.surprise(between) > two.surprise(inside) + 10 and one.surprise(between) < one.surprise(inside)


def test_few_rows_make_one_gaussian():
    assert len(Mixture.fit(np.random.default_rng(0).standard_normal((19, 2)), 8, 0).weights) == 1


# -- what is taken out ----------------------------------------------------------------------------------------


def test_of_long_vectors_the_distance_is_taken_in_a_few_directions():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 40)) * 2.0
    rows[:, 7] = 0.0  # a unit that never speaks
    mixture = Mixture.fit_directions(rows, 3)
    assert mixture.whitening.shape == (1, 40, 3)
    distance = 2 * mixture.surprise(rows)
    assert distance.mean() == pytest.approx(3, rel=0.05)  # of three directions of unit variance
    assert mixture.surprise(rows[:1] * 5)[0] == pytest.approx(25 * mixture.surprise(rows[:1])[0], rel=0.5)
    assert Mixture.fit_directions(rows[:10], 256).whitening.shape[2] == 2  # a fifth of the rows


def test_of_short_vectors_every_direction_is_taken():
    rows = np.random.default_rng(0).standard_normal((500, 6)) * np.arange(1, 7)
    mixture = Mixture.fit_directions(rows, 256)
    assert mixture.whitening.shape == (1, 6, 6)
    middle, *away = mixture.surprise(np.stack([rows.mean(0), rows.mean(0) + 9, rows.mean(0) + 90]))
    assert np.isfinite(middle) and middle < away[0] < away[1]


def test_what_a_network_makes_of_a_face_is_a_doubt_and_no_refusal(view):
    strange = Novelty({"face": view, "embedding": View(view.mixture, view.doubted, None)})
    known, odd = (replace(face(), embedding=np.full(TRAITS, value, np.float32)) for value in (0.0, 50.0))
    assert not strange.screen(evidence(known)).doubts
    found = strange.screen(evidence(odd))
    assert found.doubts == {"visual": DOUBTFUL["visual"]} and not found.faces
    again = Novelty.restore(strange.arrays(), json.loads(json.dumps(strange.limits())))
    assert again.screen(evidence(odd)).doubts == found.doubts


def test_what_is_known_is_left_as_it_is(novelty):
    before = evidence(face(), face(1))
    found = novelty.screen(before)
    assert found.evidence == replace(before) and not found.faces and not found.doubts


def test_one_strange_face_among_others_is_not_judged(novelty):
    found = novelty.screen(evidence(face(0, 9.0, logit=5.0), face(1)))
    assert [track.track_id for track in found.evidence.tracks] == [1]
    assert found.faces == {0: STRANGE_FACE} and "visual" not in found.evidence.reasons
    assert (
        found.evidence.sync is None and "talking face" in found.evidence.reasons["lipsync"]
    )  # it was face 0's


def test_no_face_left_is_a_reason(novelty):
    found = novelty.screen(evidence(face(0, 9.0), face(1, side=38.4)))
    assert found.evidence.face is None and found.evidence.voice is not None
    assert STRANGE_FACE in found.evidence.reasons["visual"]
    assert "only 38 pixels high: below 40" in found.evidence.reasons["visual"]


def test_a_face_of_the_smallest_size_is_judged(novelty):
    assert novelty.screen(evidence(face(side=40.0))).evidence.face is not None


def test_music_takes_voice_and_lips_out(novelty):
    found = novelty.screen(evidence(face(), heard=(9.0, 9.0, 9.0)))
    assert found.evidence.voice is None and found.evidence.sync is None and found.evidence.face is not None
    assert found.evidence.reasons == {"audio": STRANGE_SOUND, "lipsync": STRANGE_SOUND}


def test_a_jingle_before_speech_is_left_out(novelty):
    judged = novelty.screen(evidence(face(), heard=(9.0, 0.0, 0.0))).evidence
    assert judged.voice.window_times.tolist() == [2.0, 4.0]
    assert judged.voice.logit == 1.5 and judged.voice.embedding.tolist() == [1.5]
    assert judged.sync is not None


def test_silence_is_neither_speech_nor_strange(novelty):
    quiet = sound(0.0, 0.0, 9.0)
    quiet[0] = np.nan
    judged = novelty.screen(replace(evidence(face()), sound=quiet)).evidence
    assert judged.voice.window_times.tolist() == [0.0, 2.0]
    nothing = novelty.screen(replace(evidence(face()), sound=np.full((3, TRAITS), np.nan))).evidence
    assert len(nothing.voice.window_logits) == 3


def test_without_views_everything_is_judged():
    before = evidence(face(0, 99.0, side=5.0), heard=(99.0,))
    assert Novelty({}).screen(before).evidence == before


def test_borderline_inputs_are_judged_with_a_warning(novelty):
    found = novelty.screen(evidence(face(value=3.0), heard=(3.0, 3.0, 0.0)))
    assert found.evidence.face is not None and found.evidence.voice is not None
    assert found.doubts == DOUBTFUL
    rest = found.without_doubts()
    assert rest.face is None and rest.voice is None and rest.sync is None
    # the most suspicious face decides, so its doubt counts and no other's
    assert not novelty.screen(evidence(face(0, 3.0, logit=-1.0), face(1, logit=1.0))).doubts


# -- verdicts -------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(untrained):
    """A detector whose limits and card a test may change."""
    return replace(untrained, thresholds=dict(untrained.thresholds), card=dict(untrained.card))


def sure(bundle, visual: float, audio: float) -> Evidence:
    """Logits far from the uncertain band, with embeddings of the bundle's sizes."""
    sizes = {name: encoder.embedding_dim for name, encoder in bundle.encoders.items()}
    tracks = [replace(face(logit=visual), embedding=np.zeros(sizes["visual"]))]
    heard = replace(voice(1), window_logits=np.float32([audio]), embedding=np.zeros(sizes["audio"]))
    return Evidence(tracks, heard, None)


@pytest.mark.parametrize(
    ("visual", "audio", "doubted", "label"),
    [
        (9.0, -9.0, {}, "fake"),
        (9.0, -9.0, {"visual"}, "uncertain"),  # without the face it would be real
        (9.0, 9.0, {"visual"}, "fake"),  # the voice says so too
        (-9.0, -9.0, {"audio"}, "real"),
        (-9.0, -9.0, {"visual", "audio"}, "uncertain"),  # nothing is left that says so
        (0.0, -20.0, {"audio"}, "uncertain"),
    ],
)
def test_a_verdict_does_not_rest_on_what_is_doubted(bundle, visual, audio, doubted, label):
    found = Screened(sure(bundle, visual, audio), {}, {name: "why" for name in doubted})
    logits = fused_logits(bundle.fusion, [found.evidence])
    scores = calibrated_scores(bundle, {name: float(values[0]) for name, values in logits.items()})
    assert verdict_label(bundle, found, scores) == label


@pytest.fixture(scope="module")
def clip():
    """Noise for a face and for a voice."""
    rng = np.random.default_rng(3)
    times = np.arange(4) * 0.25
    track = FaceTrack(
        0, times, np.tile(np.float32([10, 10, 90, 110]), (4, 1)), np.ones(4, np.float32), times,
        rng.integers(0, 255, (4, 224, 224, 3), dtype=np.uint8), 0, np.zeros((0, 48, 48), np.uint8),
    )  # fmt: skip
    audio = rng.normal(0, 0.1, 32000).astype(np.float32)
    return Clip("x.mp4", "video", 2.0, MediaInfo("mp4", 1, "0"), ClipSettings(), [track], audio)


def limited(clip, doubted: float, refused: float) -> Novelty:
    """A detector that has seen things like this clip, with limits so far from their surprise."""
    rng, views = np.random.default_rng(0), {}
    for name, row in (
        ("face", face_traits(clip.tracks[0].crops)),
        ("sound", sound_traits(clip.audio, 16000)[0]),
    ):
        mixture = Mixture.fit(row + rng.standard_normal((500, len(row))), 1, 0)
        own = float(mixture.surprise(row[None])[0])
        views[name] = View(mixture, own + doubted, own + refused)
    return Novelty(views)


def test_nothing_left_is_unknown_with_the_reasons(bundle, clip):
    bundle.novelty = limited(clip, -1, -1)
    verdict = Detector(bundle).judge(clip).verdict
    assert verdict.label == "unknown" and verdict.score is None and not verdict.manipulated
    assert STRANGE_FACE in verdict.reason and STRANGE_SOUND in verdict.reason
    assert verdict.faces[0].reason == STRANGE_FACE and verdict.faces[0].score is None
    assert all(segment.visual is None and segment.audio is None for segment in verdict.segments)


def test_doubt_makes_a_verdict_uncertain_and_says_why(bundle, clip):
    bundle.thresholds = {name: {"real_below": 0.0, "fake_above": 0.0} for name in bundle.thresholds}
    assert Detector(bundle).judge(clip).verdict.label == "fake"  # whatever the score
    bundle.novelty = limited(clip, -1, 1)
    verdict = Detector(bundle).judge(clip).verdict
    assert verdict.label == "uncertain" and verdict.score is not None and not verdict.manipulated
    assert set(DOUBTFUL.values()) <= set(verdict.warnings)


def test_known_inputs_get_the_verdict_of_a_detector_without_limits(bundle, clip):
    plain = Detector(bundle).judge(clip).verdict.to_dict()
    bundle.novelty = limited(clip, 1, 2)
    screened = Detector(bundle).judge(clip).verdict.to_dict()
    assert {**plain, "timing_s": 0} == {**screened, "timing_s": 0}


# -- on disk --------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_says_the_same(bundle, clip, tmp_path):
    bundle.novelty = replace(limited(clip, 1, 2), smallest_face_px=44.0)
    bundle.card["novelty"] = {"measured": {"clips": 7}}
    save_bundle(bundle, tmp_path / "b")
    again = load_bundle(tmp_path / "b")
    rows = sound_traits(clip.audio, 16000)
    assert np.array_equal(
        again.novelty.views["sound"].mixture.surprise(rows),
        bundle.novelty.views["sound"].mixture.surprise(rows),
    )
    assert again.novelty.limits() == bundle.novelty.limits()
    assert again.card["novelty"]["measured"] == {"clips": 7}
    save_bundle(again, tmp_path / "c")
    assert load_bundle(tmp_path / "c").novelty.limits() == bundle.novelty.limits()


def test_a_card_that_does_not_fit_its_file_is_an_error(bundle, clip, tmp_path):
    bundle.novelty = limited(clip, 1, 2)
    save_bundle(bundle, tmp_path / "b")
    card = tmp_path / "b" / "card.json"
    values = json.loads(card.read_text())
    values["novelty"]["views"]["lips"] = values["novelty"]["views"]["face"]
    card.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="novelty does not fit its file"):
        load_bundle(tmp_path / "b")
    (tmp_path / "b" / "novelty.safetensors").unlink()
    with pytest.raises(WeightsError, match="lacks novelty.safetensors"):
        load_bundle(tmp_path / "b")

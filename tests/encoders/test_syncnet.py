import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.encoders.lipsync import sync
from avdetect.errors import ConfigError, WeightsError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
REACH = 15


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_published_size():
    with torch.device("meta"):
        net = create_encoder("syncnet")
    assert count(net.lip_maps, net.lip_head) == 7_966_912
    assert count(net.sound_maps, net.sound_head) == 5_664_704
    assert count(net) - count(net.classifier) == 13_631_616


def parity(name):
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(name)


@pytest.mark.skipif(not (SHARED / "parity").is_dir(), reason="the reference files are not here")
def test_embeddings_are_those_of_the_published_code(tmp_path):
    state, bgr, lips = parity("SyncNet_lip.npz")  # (2, 3, 5, 224, 224)
    torch.save(state, tmp_path / "syncnet_v2.model")
    net = create_encoder("syncnet").eval()
    torch.nn.init.normal_(net.classifier.weight)
    net.load_published(tmp_path / "syncnet_v2.model")
    assert torch.equal(net.classifier.weight, net._first_weight()) and not net.classifier.bias.any()
    rgb = bgr.flip(1).permute(0, 2, 3, 4, 1)
    with torch.inference_mode():
        torch.testing.assert_close(net._lips(rgb)[:, 0], lips["embedding"], atol=1e-4, rtol=0)
    state, cepstra, sound = parity("SyncNet_audio.npz")  # (2, 1, 13, 20)
    net.load_published(state)
    with torch.inference_mode():
        heard = net.sound_embedding(cepstra[:, 0])
        torch.testing.assert_close(heard, sound["embedding"], atol=1e-4, rtol=0)


def published_layout(net):
    names = {
        "lip_maps": "netcnnlip",
        "lip_head": "netfclip",
        "sound_maps": "netcnnaud",
        "sound_head": "netfcaud",
    }
    parts = {key: key.split(".", 1) for key in net.state_dict()}
    return {
        f"{names[part]}.{rest}": net.state_dict()[key] for key, (part, rest) in parts.items() if part in names
    }


def test_misfits_of_a_published_file_are_listed():
    net = create_encoder("syncnet_tiny")
    state = published_layout(net)
    net.load_published(state)
    with pytest.raises(WeightsError, match="missing lip_maps.0.bias; unexpected netextra.0.bias"):
        bias = state.pop("netcnnlip.0.bias")
        net.load_published({**state, "netextra.0.bias": bias})


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    net = create_encoder("syncnet_tiny").train()
    with torch.no_grad():
        net(*net.example_inputs(4))  # moves the batch-norm statistics
    return net.eval()


def test_a_clip_in_one_pass_equals_its_windows(tiny):
    faces, sound = tiny.example_inputs(2)
    with torch.inference_mode():
        lips, heard = tiny.streams(faces, sound)
        assert lips.shape == heard.shape == (2, 11, 128)
        for i in range(11):
            alone = tiny.lip_embedding(faces[:, i : i + 5].float())[:, 0]
            torch.testing.assert_close(lips[:, i], alone, atol=1e-4, rtol=1e-4)
        cepstra = tiny.mfcc(sound)
        for i in range(11):
            alone = tiny.sound_embedding(cepstra[:, :, 4 * i : 4 * i + 20])
            torch.testing.assert_close(heard[:, i], alone, atol=1e-4, rtol=1e-4)
        unit, unit_heard = tiny.windows(faces, sound)
    torch.testing.assert_close(unit, F.normalize(lips, dim=2))
    torch.testing.assert_close(unit_heard.norm(dim=2), torch.ones(2, 11))


def test_chunks_of_a_long_clip_change_nothing(tiny):
    faces = torch.randint(0, 256, (1, 140, 112, 112, 3), dtype=torch.uint8)
    sound = 0.1 * torch.randn(1, 140 * 640)
    whole = tiny._sound(sound).detach()  # with gradients there are no chunks
    with torch.no_grad():
        torch.testing.assert_close(tiny._sound(sound), whole, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(tiny._lips(faces), tiny.lip_embedding(faces), atol=1e-4, rtol=1e-4)


def test_colour_order_matters_and_whole_numbers_are_as_good_as_floats(tiny):
    faces, sound = tiny.example_inputs(1)
    faces[..., 0] //= 4
    with torch.inference_mode():
        lips = tiny._lips(faces)
        assert torch.equal(lips, tiny._lips(faces.float()))
        assert not torch.allclose(lips, tiny._lips(faces.flip(-1)), atol=1e-3)


class Planted(type(create_encoder("syncnet_tiny"))):
    """Embeddings of length about 20, made by hand: brightness of the face, and loudness, over five frames."""

    def _lips(self, mouths):
        return self._course(mouths.float().mean(dim=(2, 3, 4)) / 255)

    def _sound(self, waveform):
        return self._course(waveform.square().unflatten(1, (-1, 640)).mean(dim=2).sqrt())

    def _course(self, value):
        windows = value.unfold(1, 5, 1)
        course = F.normalize(windows - windows.mean(dim=2, keepdim=True), dim=2)
        return 10 * course * (1 + windows.mean(dim=2, keepdim=True))


def talking(frames, seed=0):
    """Faces as bright as the noise beside them is loud."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(frames) / 2, np.arange(frames), rng.random(frames))
    faces = np.broadcast_to((255 * level)[:, None, None, None], (frames, 112, 112, 3)).astype(np.uint8)
    sound = np.repeat(level, 640) * rng.standard_normal(frames * 640)
    return torch.from_numpy(faces)[None], torch.from_numpy(sound).float()[None]


@pytest.fixture(scope="module")
def planted():
    return Planted(width=1, size=112, dim=8).eval()


def delayed(sound, frames):
    """The sound, `frames` grid frames later (earlier, where negative), with silence where there is none."""
    lead = torch.zeros(1, abs(frames) * 640)
    kept = sound[:, : -frames * 640] if frames > 0 else sound[:, -frames * 640 :]
    return torch.cat([lead, kept] if frames > 0 else [kept, lead], dim=1)


@pytest.mark.parametrize("late", [-9, -1, 4, 12])
def test_offset_is_positive_where_audio_is_late(planted, late):
    faces, sound = talking(120)
    in_sync = planted.compare(faces, sound)
    shifted = planted.compare(faces, delayed(sound, late))
    assert in_sync.offset_frames == 0 and in_sync.confidence > 3
    assert shifted.offset_frames == late and shifted.offset_ms == 40.0 * late
    # a head that never learned says what it should of both
    assert in_sync.logit < 0 and (shifted.logit > in_sync.logit + 1.5 * abs(late))


def published_scores(lips, sound, vshift):
    """Offset, confidence and distances (W, 2v+1) as the released evaluation has them (zeros outside)."""
    padded = F.pad(sound, (0, 0, vshift, vshift))
    span = 2 * vshift + 1
    rows = [F.pairwise_distance(lips[i : i + 1], padded[i : i + span]) for i in range(len(lips))]
    distances = torch.stack(rows)
    mean = distances.mean(dim=0)
    return vshift - int(mean.argmin()), float(mean.median() - mean.min()), distances


@pytest.mark.parametrize("late", [-7, 0, 5])
def test_offset_has_the_opposite_sign_of_the_published_code(planted, late):
    faces, sound = talking(300)
    sound = delayed(sound, late)
    lips, heard = planted.streams(faces, sound)
    offset, confidence, distances = published_scores(lips[0], heard[0], REACH)
    result = planted.compare(faces, sound)
    assert result.offset_frames == late and offset == -late
    # the same distances; the curves differ by the silence and the zeros that are left out here
    inside = np.isfinite(result.distances)
    np.testing.assert_allclose(result.distances[inside], distances.numpy()[inside], atol=5e-3)
    assert result.confidence == pytest.approx(confidence, rel=0.15)


def test_confidence_is_median_less_minimum_of_the_mean_curve(planted):
    result = planted.compare(*talking(100))
    np.testing.assert_allclose(result.curve, np.nanmean(result.distances, axis=0), rtol=1e-4)
    assert result.confidence == pytest.approx(np.median(result.curve) - result.curve.min(), abs=1e-4)


def test_unrelated_sound_has_little_confidence_and_a_higher_logit(planted):
    faces, sound = talking(200)
    _, other = talking(200, seed=1)
    together, apart = planted.compare(faces, sound), planted.compare(faces, other)
    assert apart.confidence < 0.4 * together.confidence
    assert apart.logit > 0 > together.logit


@pytest.mark.slow
def test_learns_the_bond_and_its_sign():
    """InfoNCE over the windows and the logit of a shift, on faces that flicker with the sound."""
    torch.manual_seed(0)
    net = create_encoder("syncnet_tiny", size=64).train()
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    for step in range(90):
        pairs = [talking(24, seed=4 * step + k) for k in range(4)]
        faces = torch.cat([face[:, :, :64, :64] for face, _ in pairs])
        sound = torch.cat([heard for _, heard in pairs])
        lips, heard = net.windows(faces, sound)
        cosines = torch.einsum("nwd,mud->nwmu", lips, heard).flatten(2, 3).flatten(0, 1) / 0.1
        logits = torch.cat([net(faces, sound), net(faces, sound.roll(8 * 640, dims=1))])
        labels = (torch.arange(8) // 4).float()
        loss = F.cross_entropy(cosines, torch.arange(len(cosines)))
        loss = loss + F.binary_cross_entropy_with_logits(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    faces, sound = talking(100, seed=999)
    results = {
        late: net.compare(faces[:, :, :64, :64], delayed(sound, late) if late else sound)
        for late in (-5, 0, 5)
    }
    assert {late: result.offset_frames for late, result in results.items()} == {-5: -5, 0: 0, 5: 5}
    assert results[0].logit < min(results[-5].logit, results[5].logit)


def test_unusable_offsets_never_win_however_long_the_embeddings():
    curve = torch.full((1, 31), 90.0)
    curve[0, 3] = 12.0
    usable = torch.ones(1, 31, dtype=torch.bool)
    usable[0, 20:] = False
    minimum, median = sync.curve_statistics(curve, usable)
    assert (float(minimum), float(median)) == (12.0, 90.0)
    away = sync.curve_features(curve, usable, 2.0)[0, 5]
    assert float(away) == pytest.approx(12 / 15)
    assert torch.isfinite(sync.curve_features(curve, torch.zeros_like(usable), 2.0)).all()


def test_sizes_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="face size of 50 pixels: give at least 51, best 224"):
        create_encoder("syncnet_tiny", size=50)
    net = create_encoder("syncnet_tiny", size=51).eval()
    assert net(*net.example_inputs(1)).shape == (1,)

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.encoders.audio.graph import GraphAttention, GraphPool, MixedGraphAttention
from avdetect.encoders.audio.sinc import SincBank, sinc_bank
from avdetect.errors import WeightsError
from avdetect.weights import read_state

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
needs_reference = pytest.mark.skipif(
    not (SHARED / "parity").is_dir(), reason="the reference files are not here"
)


def published(fixture):
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(fixture)


@needs_reference
@pytest.mark.parametrize("name, fixture", [("aasist", "AASIST.npz"), ("aasist_l", "AASIST-L.npz")])
def test_equals_the_published_network(name, fixture):
    path, x, expected = published(fixture)
    encoder = create_encoder(name).load_published(path).eval()
    with torch.inference_mode():
        embedding = encoder.embed(x)
        torch.testing.assert_close(embedding, expected["embedding"], atol=1e-4, rtol=0)
        torch.testing.assert_close(encoder.class_logits(embedding), expected["logits"], atol=1e-4, rtol=0)
        probability = torch.softmax(expected["logits"], dim=1)[:, 0]  # of spoof
        torch.testing.assert_close(torch.sigmoid(encoder(x)), probability, atol=1e-5, rtol=0)


@needs_reference
def test_misfit_of_a_published_checkpoint_is_listed():
    path, _, _ = published("AASIST-L.npz")
    state = read_state(path)
    state["HtrgGAT_layer_ST11.att_weight33"] = state.pop("HtrgGAT_layer_ST11.att_weight22")
    with pytest.raises(
        WeightsError,
        match="missing branches.0.first.weight_bb; unexpected HtrgGAT_layer_ST11.att_weight33",
    ):
        create_encoder("aasist_l").load_published(state)
    with pytest.raises(WeightsError, match="do not fit aasist: other shapes spectral_position"):
        create_encoder("aasist").load_published(path)


def test_what_the_published_code_does_not_use_stays_frozen():
    encoder = create_encoder("aasist_l", window_s=0.5).train()
    frozen = {key for key, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {f"blocks.{i}.norm1.{part}" for i in range(1, 6) for part in ("weight", "bias")}
    (x,) = encoder.example_inputs(2)
    before = encoder.eval()(x)
    for block in encoder.blocks[1:]:
        block.norm1.weight.fill_(7.0)
    torch.testing.assert_close(encoder(x), before)


def test_windows_are_the_published_ones_and_short_sound_is_repeated():
    preprocess = create_encoder("aasist_l").preprocess
    short = np.arange(1, 30001, dtype=np.float32)
    windows, starts = preprocess(short)
    assert windows.shape == (1, 64600) and starts.tolist() == [0.0]
    np.testing.assert_array_equal(windows[0, 60000:].numpy(), short[:4600])


def test_polarity_is_spoof_over_bona_fide():
    encoder = create_encoder("aasist_l").eval()
    with torch.inference_mode():
        encoder.classifier.weight.zero_()
        encoder.classifier.bias.copy_(torch.tensor([2.0, -1.0]))  # certain of spoof
        torch.testing.assert_close(encoder.classify(torch.randn(2, 160)), torch.full((2,), 3.0))


def test_the_bands_of_the_filters():
    bank = sinc_bank(70, 129, 16000)
    assert bank.shape == (70, 129) and bank.dtype == np.float32
    np.testing.assert_allclose(bank, bank[:, ::-1], atol=1e-8)  # no delay
    # side by side, all bands together pass everything: the ideal all-pass is one sample
    np.testing.assert_allclose(bank.sum(axis=0), np.eye(129)[64], atol=1e-6)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 71) / 2595) - 1)
    layer, time = SincBank(70, 129), torch.arange(16000) / 16000
    for band in (30, 50, 68):
        tone = torch.sin(2 * torch.pi * (edges[band] + edges[band + 1]) / 2 * time)
        assert int(layer(tone[None]).mean(dim=2).argmax()) == band
    with pytest.raises(ValueError, match="must be odd, not 128"):
        sinc_bank(70, 128, 16000)


def test_graph_attention_does_not_know_the_order_of_nodes():
    torch.manual_seed(0)
    layer, x, order = GraphAttention(8, 6, 2.0).eval(), torch.randn(2, 5, 8), torch.randperm(5)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_graph_attention_by_hand():
    torch.manual_seed(0)
    layer, x = GraphAttention(4, 3, 2.0).eval(), torch.randn(1, 3, 4)
    nodes = []
    for i in range(3):
        scores = torch.stack(
            [torch.tanh(layer.pair(x[0, i] * x[0, j])) @ layer.pair_weight / 2.0 for j in range(3)]
        )
        seen = (torch.softmax(scores, dim=0) * x[0]).sum(dim=0)
        nodes.append(layer.attended(seen) + layer.itself(x[0, i]))
    expected = F.selu(torch.stack(nodes) / (1 + layer.norm.eps) ** 0.5)  # statistics at their start
    torch.testing.assert_close(layer(x)[0], expected)


def test_mixed_attention_weighs_each_pair_of_kinds_by_its_own():
    torch.manual_seed(0)
    layer = MixedGraphAttention(4, 3, 1.0).eval()
    with torch.no_grad():
        scores = []
        for name in ("weight_aa", "weight_ab", "weight_bb"):
            for other in ("weight_aa", "weight_ab", "weight_bb"):
                getattr(layer, other).fill_(float(other == name))
            scores.append(layer._scores(torch.randn(1, 5, 4), 2)[0] != 0)
    a = torch.tensor([True, True, False, False, False])
    for found, expected in zip(
        scores,
        (a[:, None] & a, a[:, None] ^ a, ~a[:, None] & ~a),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_pool_keeps_the_best_nodes_in_order():
    pool = GraphPool(1, 0.5).eval()
    with torch.no_grad():
        pool.score.weight.fill_(1.0)
        pool.score.bias.zero_()
    x = torch.tensor([[[1.0], [-2.0], [3.0], [0.5], [-1.0]]])
    torch.testing.assert_close(pool(x), (x * torch.sigmoid(x))[:, [2, 0]])
    assert GraphPool(1, 0.5)(x[:, :1]).shape == (1, 1, 1)  # one node is always left


@pytest.mark.slow
def test_learns_what_a_filter_hears():
    """White noise against noise without its upper half."""
    torch.manual_seed(0)
    small = {"channels": (8, 12), "graph": (12, 8), "filters": 36, "window_s": 0.25}
    encoder = create_encoder("aasist_l", **small).train()
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)

    def batch():
        x = 0.1 * torch.randn(16, 4000)
        x[:8] = torch.fft.irfft(torch.fft.rfft(x[:8]) * (torch.arange(2001) < 1000), 4000)
        return x, (torch.arange(16) < 8).float()

    for _ in range(120):
        x, label = batch()
        loss = F.binary_cross_entropy_with_logits(encoder(x), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, label = batch()
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(x) > 0, label.bool())

"""Small networks, each trained for seconds to find an artefact that the tests know the place of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.explain.checks import Planted
from avdetect.explain.views import FaceView, MouthView, SpectrogramView, WaveView, has_front

SIDE, PATCH = 64, 20  # a cell of the last layer, 16 pixels, fits into the patch
RATE, SECONDS = 16000, 0.5
FRAMES, MOUTH, STRETCH = 40, 24, 12
COUNT = 12  # inputs to check on


def fit(encoder, batch, steps, rate=3e-3):
    """Train on `batch(n, rng)` -> (inputs, labels); the last loss."""
    rng, losses = np.random.default_rng(0), []
    optimiser = torch.optim.AdamW(encoder.parameters(), rate)
    encoder.train()
    for _ in range(steps):
        inputs, labels = batch(16, rng)[:2]
        loss = F.binary_cross_entropy_with_logits(encoder(*inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    encoder.eval()
    return float(np.mean(losses[-10:]))


def faces(n, rng):
    """Soft random pictures; a fake one has a patch of fine stripes somewhere."""
    soft = torch.from_numpy(rng.standard_normal((n, 3, 6, 6))).float()
    x = F.interpolate(soft, size=(SIDE, SIDE), mode="bicubic") + 0.05 * torch.from_numpy(
        rng.standard_normal((n, 3, SIDE, SIDE))
    )
    x, labels, inside = x.float(), torch.zeros(n), np.zeros((n, SIDE, SIDE), bool)
    stripes = torch.tensor([1.0, -1.0]).repeat(PATCH // 2).expand(PATCH, PATCH)
    for i in range(n):  # what stands out is no artefact by itself
        top, left = rng.integers(0, SIDE - PATCH + 1, 2)
        x[i, :, top : top + PATCH, left : left + PATCH] += float(rng.choice([-1.0, 1.0]))
    plain = x.clone()
    for i in range(0, n, 2):
        top, left = rng.integers(0, SIDE - PATCH + 1, 2)
        x[i, :, top : top + PATCH, left : left + PATCH] += stripes
        inside[i, top : top + PATCH, left : left + PATCH] = True
        labels[i] = 1.0
    return (x,), labels, inside, (plain,)


def sounds(n, rng):
    """Noise with hum; a fake one has a short burst of a narrow band of noise somewhere."""
    size = int(RATE * SECONDS)
    time = np.arange(size) / RATE
    x = 0.1 * rng.standard_normal((n, size)) + 0.1 * np.sin(2 * np.pi * 150 * time)
    for row in x:  # bursts of low tones are no artefact
        for start in rng.uniform(0, SECONDS - 0.1, 3):
            shape = np.exp(-(((time - start - 0.05) / 0.04) ** 4))
            row += 0.15 * shape * np.sin(2 * np.pi * rng.uniform(250, 900) * time)
    labels, spans, plain = torch.zeros(n), [None] * n, x.copy()
    for i in range(0, n, 2):
        start, pitch = rng.uniform(0.05, SECONDS - 0.2), rng.uniform(1500, 5000)
        shape = np.exp(-(((time - start - 0.07) / 0.05) ** 4))
        phase = pitch + 60 * np.cumsum(rng.standard_normal(size)) / 40
        x[i] += 0.2 * shape * np.sin(2 * np.pi * np.cumsum(phase) / RATE)
        labels[i], spans[i] = 1.0, (start, start + 0.14, pitch)
    return (torch.from_numpy(x).float(),), labels, spans, (torch.from_numpy(plain).float(),)


def mouths(n, rng):
    """Mouths that open as loud as the sound is; in a fake one they follow another sound for a stretch."""
    loud = F.interpolate(torch.from_numpy(rng.uniform(0, 1, (2, n, 20))), size=FRAMES, mode="linear")[..., :]
    heard, other = loud.float()
    shown, labels, inside = heard.clone(), torch.zeros(n), np.zeros((n, FRAMES), bool)
    for i in range(0, n, 2):
        start = int(rng.integers(0, FRAMES - STRETCH + 1))
        shown[i, start : start + STRETCH] = other[i, start : start + STRETCH]
        inside[i, start : start + STRETCH] = True
        labels[i] = 1.0
    noise = torch.from_numpy(rng.standard_normal((n, FRAMES * 640))).float()
    sound = noise * 0.2 * (0.05 + heard).repeat_interleave(640, dim=1)
    return (_opened(shown, rng), sound), labels, inside, (_opened(heard, rng), sound)


def _opened(opening, rng):
    y, x = torch.meshgrid(torch.linspace(-1, 1, MOUTH), torch.linspace(-1, 1, MOUTH), indexing="ij")
    lips = torch.sigmoid(12 * (x**2 / 0.6 + y**2 / (0.05 + 0.7 * opening[..., None, None] ** 2) - 1))
    return (0.2 + 0.6 * lips + 0.02 * torch.from_numpy(rng.standard_normal(lips.shape))).float()


SOUND = {"window_s": SECONDS, "hop_s": SECONDS / 2, "dropout": 0.0}
NETWORKS = {  # name, settings, what it learns from, for how many steps
    "face": (
        "resnet_autoatt_small",
        {"size": SIDE, "stem": 8, "widths": (12, 16, 24), "depths": (1, 1, 1), "dropout": 0.0},
        faces,
        80,
    ),
    "mel": ("mel_cnn_tiny", {**SOUND, "channels": (16, 32, 48), "dense": 32}, sounds, 50),
    "spectrum": (
        "spectrum_cnn",
        {**SOUND, "channels": (8, 12, 16), "dense": 16, "maps": ("level", "advance")},
        sounds,
        60,
    ),
    "wave": ("lfcc_lcnn", {**SOUND, "channels": (8, 12, 16)}, sounds, 60),
    "lip": (
        "lipsync_small",
        {
            "channels": (6, 8, 12, 12),
            "dim": 24,
            "reach": 4,
            "n_mels": 20,
            "mouth_size": MOUTH,
            "dropout": 0.0,
        },
        mouths,
        150,
    ),
}


def untrained_network(kind):
    name, settings, _, _ = NETWORKS[kind]
    torch.manual_seed(0)
    return create_encoder(name, **settings).eval()


@pytest.fixture(scope="session")
def untrained():
    """`untrained(kind)` -> a small network of random weights."""
    return untrained_network


@pytest.fixture(scope="session")
def trained():
    """`trained(kind)` -> a small network that has learnt its artefact, and the loss that is left."""
    done = {}

    def train(kind):
        if kind not in done:
            encoder = untrained_network(kind)
            done[kind] = encoder, fit(encoder, *NETWORKS[kind][2:])
        return done[kind]

    return train


def planted_in(encoder, count=COUNT):
    """Fakes of the test's own making, with the place of the artefact and what it adds to the logit."""
    rng = np.random.default_rng(7)
    batch = {"visual": faces, "audio": sounds, "lipsync": mouths}[encoder.kind]
    inputs, labels, inside, plain = batch(2 * count, rng)
    with torch.no_grad():
        rise = encoder(*inputs) - encoder(*plain)
    made = []
    for i in np.flatnonzero(labels.numpy()):
        if encoder.kind == "visual":
            view, x, area = FaceView(encoder), inputs[0][i : i + 1], inside[i]
        elif encoder.kind == "audio":
            view, x, area = _sound_view(encoder, inputs[0][i : i + 1], *inside[i])
        else:
            view, area = MouthView(encoder, inputs[0][i : i + 1], inputs[1][i : i + 1]), inside[i]
            x = view.whole()
        made.append(Planted(view, x, area, float(rise[i])))
    return made


def _sound_view(encoder, window, start, end, pitch):
    if has_front(encoder):
        view, x = SpectrogramView(encoder), encoder.front(window).detach()
        hop = encoder.settings["hop_length"] / RATE
    else:
        view = WaveView(encoder, window)
        x, hop = view.whole(), 128 / RATE
    times = np.arange(x.shape[-1]) * hop
    near = np.abs(view.bands_hz - pitch) <= np.maximum(400.0, 0.2 * pitch)
    return view, x, near[:, None] & ((times >= start - 0.02) & (times <= end + 0.02))[None]


@pytest.fixture(scope="session")
def planted():
    """`planted(encoder, count)` -> `Planted` fakes of the tests' own making."""
    return planted_in

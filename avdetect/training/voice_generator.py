"""Training of the small neural vocoders whose copies of genuine speech serve as pseudo-fakes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.data.guard import check_closed
from avdetect.data.prepare import PreparedSet
from avdetect.data.pseudo.vocoders import HOP, NETWORKS, Vocoder, save_generator
from avdetect.encoders.audio.logmel import level_normalise
from avdetect.errors import ConfigError, DataError
from avdetect.training.snapshots import check_keep, snapshot_files, snapshot_steps, unfinished
from avdetect.transforms.settings import Settings

RESOLUTIONS = (256, 512, 1024)  # transforms of the spectral loss and of the critics
FLOOR = 1e-4  # added to magnitudes before their logarithm
SAY_EVERY = 100
CRITIC_EVERY = 3  # steps: a judged one takes twice as long as the others


@dataclass(frozen=True)
class VoiceGeneratorSettings(Settings):
    """How long and how large: `steps` optimiser steps of `batch` excerpts of `excerpt_s` seconds for each network.

    networks: which to train; keep: at which parts of the training a copy is kept (half-trained ones leave
    stronger traces); critic_from: part of the training after which networks that tell copies from speech
    join the loss; speech_s: at most so many seconds of speech are held in memory.
    """

    steps: int = 500
    batch: int = 8
    excerpt_s: float = 0.5
    lr: float = 1e-3
    width: int = 128
    networks: tuple[str, ...] = NETWORKS
    keep: tuple[float, ...] = (0.4, 0.7, 1.0)
    critic_from: float = 0.4
    speech_s: float = 7200.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"the voice generators' {name} is {getattr(self, name)}: it must be 1 or more"
                )
        for name in ("excerpt_s", "speech_s", "lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"the voice generators' {name} is {getattr(self, name)}: it must be positive"
                )
        if unknown := sorted(set(self.networks) - set(NETWORKS)):
            raise ConfigError(
                f"unknown voice generators {', '.join(unknown)}: known are {', '.join(NETWORKS)}"
            )
        check_keep(self.keep, "voice")


class Critic(nn.Module):
    """Tells speech from copies by the log-magnitude spectrogram of one resolution: (N, T) -> logits (N, 1, f, t)."""

    def __init__(self, n_fft: int, width: int = 12):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        widths = (1, width, width, 2 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (5, 3), (2, 1 + place % 2), padding=(2, 1))
            for place, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) -> (N, 1, f, t)."""
        x = log_magnitude(waveform, self.window)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            for layer in self.layers:
                x = F.leaky_relu(layer(x), 0.2)
            return self.out(x).float()


def log_magnitude(waveform: Tensor, window: Tensor) -> Tensor:
    """(N, T) -> natural logarithm of the magnitude (N, f, t), at a hop of a quarter of the window."""
    size = window.numel()
    spectrum = torch.view_as_real(torch.stft(waveform, size, size // 4, window=window, return_complex=True))
    return 0.5 * torch.log(spectrum.square().sum(-1) + FLOOR)


def spectral_loss(copy: Tensor, speech: Tensor) -> Tensor:
    """Mean distance of magnitudes and of their logarithms over `RESOLUTIONS`; both (N, T).

    After the multi-resolution STFT loss of Yamamoto, Song and Kim, Parallel WaveGAN, ICASSP 2020.
    """
    losses = []
    for size in RESOLUTIONS:
        window = torch.hann_window(size)
        a, b = log_magnitude(copy, window), log_magnitude(speech, window)
        linear_a, linear_b = a.exp(), b.exp()
        losses.append((a - b).abs().mean() + (linear_a - linear_b).abs().mean() / linear_b.mean())
    return torch.stack(losses).mean()


def fit_voice_generators(
    prepared: PreparedSet, settings: dict[str, Any], folder: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Train the networks on genuine speech of the train split and return their files in `folder`.

    settings: fields of `VoiceGeneratorSettings`. A network whose files are all there is not trained again, so an
    interrupted stage goes on with the next one. Raises DataError where the split has no genuine speech of an
    excerpt's length.
    """
    check_closed("training")
    settings = VoiceGeneratorSettings.from_dict(settings)
    files = snapshot_files(folder, "voice", settings.networks, settings.keep)
    todo = unfinished(files)
    if todo:
        speech, rate = _speech(prepared, settings)
        folder.mkdir(parents=True, exist_ok=True)
    for kind in todo:
        fit_one(kind, speech, rate, settings, files[kind], say)
    return [path for paths in files.values() for path in paths]


def _speech(prepared: PreparedSet, settings: VoiceGeneratorSettings) -> tuple[list[np.ndarray], int]:
    rows = prepared.rows("audio", "train")
    rows = rows[rows["truth"] == 0].reset_index(drop=True)
    rate, total, speech = prepared.settings.sample_rate, 0, []
    for index in np.random.default_rng(settings.seed).permutation(len(rows)):
        with prepared.clip_file(rows.iloc[index].to_dict()) as file:
            audio = np.asarray(file.audio(), dtype=np.float32)
        if audio.size >= _samples(settings, rate) and np.abs(audio).max() > 0:
            speech.append(audio)
            total += audio.size
        if total >= settings.speech_s * rate:
            break
    if not speech:
        raise DataError(
            f"the train split has no genuine speech of {settings.excerpt_s} s: voice generators cannot be trained, "
            "give footage with sound or a shorter excerpt_s"
        )
    return speech, rate


def _samples(settings: VoiceGeneratorSettings, rate: int) -> int:
    return max(8 * HOP, round(settings.excerpt_s * rate) // HOP * HOP)


def fit_one(
    kind: str,
    speech: list[np.ndarray],
    rate: int,
    settings: VoiceGeneratorSettings,
    files: list[Path],
    say: Callable[[str], None],
) -> None:
    """Train one network on waveforms float32 (n,) and write it to `files`, one for each part of `settings.keep`."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, NETWORKS.index(kind)])
    network, size = Vocoder(kind, settings.width, sample_rate=rate), _samples(settings, rate)
    critics = nn.ModuleList(Critic(n_fft) for n_fft in RESOLUTIONS)
    learners = [
        torch.optim.AdamW(part.parameters(), factor * settings.lr, betas=(0.8, 0.99))
        for part, factor in ((network, 1.0), (critics, 0.5))
    ]
    keep = snapshot_steps(files, settings.keep, settings.steps)
    lengths = np.array([len(audio) for audio in speech], dtype=np.float64)
    started = time.perf_counter()
    for step in range(1, settings.steps + 1):
        chosen = rng.choice(len(speech), settings.batch, p=lengths / lengths.sum())
        starts = [int(rng.integers(len(speech[i]) - size + 1)) for i in chosen]
        excerpts = np.stack([speech[i][s : s + size] for i, s in zip(chosen, starts, strict=True)])
        judged = step > settings.critic_from * settings.steps and step % CRITIC_EVERY == 0
        loss = _step(network, critics, level_normalise(torch.from_numpy(excerpts)), learners, judged)
        for learner, factor in zip(learners, (1.0, 0.5), strict=True):
            for group in learner.param_groups:
                group["lr"] = settings.lr * factor * (1.0 - 0.9 * step / settings.steps)
        if step in keep:
            save_generator(network, keep[step])
        if step % SAY_EVERY == 0 or step == settings.steps:
            passed = time.perf_counter() - started
            say(
                f"generator voice-{kind}  step {step} of {settings.steps}  spectral loss {loss:.3f}  {passed:.0f} s"
            )


def _step(
    network: Vocoder,
    critics: nn.ModuleList,
    speech: Tensor,
    learners: list[torch.optim.Optimizer],
    judged: bool,
) -> float:
    """One step of the network and, where `judged`, of its critics (least squares: Mao et al., LSGAN, 2017)."""
    with torch.autocast("cpu", torch.bfloat16):
        copy = network(speech)
    if judged:
        told = sum(
            (critic(speech) - 1).square().mean() + critic(copy.detach()).square().mean() for critic in critics
        )
        learners[1].zero_grad(set_to_none=True)
        told.backward()
        learners[1].step()
    distance = loss = spectral_loss(copy, speech)
    if network.kind == "codec":
        loss = loss + 0.5 * (copy - speech).abs().mean()
    if judged:
        loss = loss + 0.2 * sum((critic(copy) - 1).square().mean() for critic in critics)
    learners[0].zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    learners[0].step()
    return float(distance.detach())

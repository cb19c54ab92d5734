"""One clip, one modality, one method: the map, and all that is needed to show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError, MediaError
from avdetect.evidence import MIN_SYNC_FRAMES, MODALITIES, SYNC_STRETCH_S
from avdetect.explain.methods import Method, choose_method
from avdetect.explain.views import WAVE_HOP, FaceView, MouthView, SpectrogramView, View, WaveView, has_front
from avdetect.inference import Analysis, Bundle

CROPS = 4  # of a face, the most suspicious ones
SOUND_S, SOUND_COSTLY_WINDOWS = 60.0, 2  # the most suspicious stretch of a recording, at most
BATCH = 16


@dataclass(frozen=True)
class Explanation:
    """values, float32: visual (n_crops, H, W) in the crops' pixels; audio (n_bands, frames), low bands first; lipsync
    (T,), one per mouth frame.

    times_s: of the crops (n_crops,), of the spectrogram's frames (frames,), of the mouth frames (T,). signed: values
    below 0 speak for genuine; else all are 0 and above. logits: of what was explained, positive = fake, in the order
    of the crops, windows or stretches. Visual alone: track_id, crop_indices (n_crops,) into that track's crops, and
    crops (n_crops, H, W, 3) uint8. Audio alone: bands_hz (n_bands,) centres, hop_s, start_s, and level_db (n_bands,
    frames) of the sound beside the map. Lipsync: track_id, and start_s of the first mouth frame.
    """

    modality: str
    method: str
    network: str
    values: np.ndarray
    times_s: np.ndarray
    logits: np.ndarray
    signed: bool
    meaning: str
    track_id: int | None = None
    crop_indices: np.ndarray | None = None
    crops: np.ndarray | None = None
    bands_hz: np.ndarray | None = None
    hop_s: float | None = None
    start_s: float | None = None
    level_db: np.ndarray | None = None

    def scaled(self) -> np.ndarray:
        """`values` divided by the largest size among them, for colours: within [-1, 1], or [0, 1] if unsigned."""
        return self.values / max(float(np.abs(self.values).max(initial=0.0)), 1e-12)

    def by_second(self) -> list[tuple[float, float]]:
        """(start of a second, mean of the values in it) of sound and lip-sync, in order of time."""
        values = self.values.mean(0) if self.values.ndim == 2 else self.values
        seconds = np.floor(self.times_s).astype(int)
        return [(float(s), float(values[seconds == s].mean())) for s in np.unique(seconds)]


def explain(
    analysis: Analysis, bundle: Bundle, modality: str, method: str | None = None, *, crops: int = CROPS
) -> Explanation:
    """Why the encoder of a modality judged a clip as it did.

    method: of `METHODS`; None takes the encoder's default. crops: how many of the deciding face's, the most suspicious
    ones. Of a recording the most suspicious minute is explained, of a costly method `SOUND_COSTLY_WINDOWS` windows.
    Raises ConfigError for a method that is unknown or not sound for the encoder, and MediaError, with the reason, where
    the modality was not judged.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"there is no modality '{modality}': take one of {', '.join(MODALITIES)}")
    encoder = bundle.encoders.get(modality)
    evidence = analysis.evidence
    judged = {"visual": evidence.face, "audio": evidence.voice, "lipsync": evidence.sync}[modality]
    if encoder is None or judged is None:
        why = evidence.reasons.get(modality, f"this detector has no {modality} encoder")
        raise MediaError(f"{analysis.clip.path}: there is nothing to explain of {modality}: {why}")
    chosen = choose_method(encoder, method)
    work = {"visual": _faces, "audio": _sound, "lipsync": _lips}[modality]
    with torch.inference_mode(False):
        return work(analysis, encoder, chosen, crops)


def _device(encoder: Encoder) -> torch.device:
    return next(encoder.parameters()).device


def _logits(view: torch.nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return view(x).float().cpu().numpy()


def _faces(analysis: Analysis, encoder: Encoder, method: Method, count: int) -> Explanation:
    face = analysis.evidence.face
    track = next(track for track in analysis.clip.tracks if track.id == face.track_id)
    chosen = np.sort(np.argsort(-face.crop_logits)[:count])
    crops = np.asarray(track.crops)
    # all of them: a network that compares frames needs the one before
    x = encoder.preprocess(crops)[chosen].to(_device(encoder))
    view = FaceView(encoder)
    maps = torch.cat([method.run(view, part) for part in x.split(BATCH)])
    # each value spreads over the pixels of the crop that the network saw as one
    maps = F.interpolate(maps.unsqueeze(1), size=crops.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    return Explanation(
        "visual", method.name, encoder.name, maps.float().cpu().numpy(), face.crop_times[chosen],
        face.crop_logits[chosen], method.signed, method.meaning,
        track_id=track.id, crop_indices=chosen, crops=crops[chosen],
    )  # fmt: skip


def _sound(analysis: Analysis, encoder: Encoder, method: Method, _: int) -> Explanation:
    voice, pre = analysis.evidence.voice, encoder.preprocess
    fits = SOUND_COSTLY_WINDOWS if method.costly else 1 + int((SOUND_S - pre.window_s) / pre.hop_s)
    first, last = suspicious_stretch(voice.window_logits, max(1, fits))
    begin = round(voice.window_times[first] * pre.sample_rate)
    end = round(voice.window_times[last] * pre.sample_rate) + pre.window_samples
    audio = np.array(analysis.clip.audio[begin:end], np.float32)
    windows, offsets = pre(audio)
    maps, logits = [], []
    for view, x in sound_views(encoder, windows.to(_device(encoder))):
        maps.append(method.run(view, x).float().cpu().numpy())
        logits.append(_logits(view, x))
    hop_s = (encoder.settings["hop_length"] if has_front(encoder) else WAVE_HOP) / pre.sample_rate
    starts = np.rint(np.asarray(offsets) / hop_s).astype(int)
    heard = 1 + int(len(audio) / pre.sample_rate / hop_s)  # a short recording was repeated to fill the window
    values = joined(np.concatenate(maps), starts)[:, :heard]
    start_s = begin / pre.sample_rate
    return Explanation(
        "audio", method.name, encoder.name, values, start_s + hop_s * np.arange(values.shape[1]),
        np.concatenate(logits), method.signed, method.meaning, bands_hz=np.asarray(view.bands_hz, np.float64),
        hop_s=hop_s, start_s=start_s,
        level_db=level_db(audio, pre.sample_rate, view.bands_hz, hop_s)[:, : values.shape[1]],
    )  # fmt: skip


def sound_views(encoder: Encoder, windows: Tensor) -> Iterator[tuple[View, Tensor]]:
    """Views and their inputs that together hold the windows (W, T), in order."""
    if has_front(encoder):
        view = SpectrogramView(encoder)
        for part in windows.split(BATCH):
            with torch.no_grad():
                x = encoder.front(part)
            yield view, x
        return
    for window in windows.split(1):
        view = WaveView(encoder, window)
        yield view, view.whole()


def suspicious_stretch(logits: np.ndarray, most: int) -> tuple[int, int]:
    """First and last of the `most` windows in a row whose logits (W,) have the highest sum; all if there are fewer."""
    if len(logits) <= most:
        return 0, len(logits) - 1
    sums = np.convolve(logits, np.ones(most), "valid")
    first = int(sums.argmax())
    return first, first + most - 1


def joined(maps: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Maps (W, bands, frames) of windows that begin at frames `starts` (W,) -> (bands, all frames), float32.

    Where windows overlap, their mean.
    """
    frames = maps.shape[2]
    total = np.zeros((maps.shape[1], int(starts.max()) + frames), np.float64)
    count = np.zeros(total.shape[1])
    for one, start in zip(maps, starts, strict=True):
        total[:, start : start + frames] += one
        count[start : start + frames] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def level_db(audio: np.ndarray, rate: int, bands_hz: np.ndarray, hop_s: float) -> np.ndarray:
    """Waveform (T,) -> level in dB of full scale (len(bands_hz), frames) at these frequencies, for display."""
    size, hop = 512, round(hop_s * rate)
    padded = torch.from_numpy(np.pad(np.asarray(audio, np.float32), size // 2))
    spectrum = torch.stft(
        padded, size, hop, window=torch.hann_window(size), center=False, return_complex=True
    )
    bins = np.rint(np.asarray(bands_hz) * size / rate).astype(int)
    amplitude = spectrum.abs().numpy()[bins] * (4.0 / size)  # of a sine, under a Hann window
    return (20.0 * np.log10(amplitude + 1e-6)).astype(np.float32)


def _lips(analysis: Analysis, encoder: Encoder, method: Method, _: int) -> Explanation:
    sync, clip = analysis.evidence.sync, analysis.clip
    track = next(track for track in clip.tracks if track.id == sync.track_id)
    fps = clip.settings.grid_fps
    size = round(SYNC_STRETCH_S * fps)
    maps, logits = [], []
    for start in range(0, len(track.mouths), size):  # the stretches in which it was judged
        part = np.asarray(track.mouths[start : start + size])
        if len(part) < MIN_SYNC_FRAMES:
            maps.append(np.zeros(len(part), np.float32))
            continue
        mouths, waveform = encoder.preprocess(part, track.mouth_start + start, clip.audio)
        view = MouthView(encoder, mouths.to(_device(encoder)), waveform.to(_device(encoder)))
        x = view.whole()
        maps.append(method.run(view, x)[0].float().cpu().numpy())
        logits.append(_logits(view, x))
    values, start_s = np.concatenate(maps), track.mouth_start / fps
    return Explanation(
        "lipsync", method.name, encoder.name, values, start_s + np.arange(len(values)) / fps, np.concatenate(logits),
        method.signed, method.meaning, track_id=track.id, start_s=start_s,
    )  # fmt: skip

"""Speech as it comes out of a telephone line or a lossy file: encoded and decoded in memory through PyAV."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avdetect.errors import ConfigError


@dataclass(frozen=True)
class Codec:
    """FFmpeg's names, and the rate at which speech is coded."""

    encoder: str
    decoder: str
    sample_rate: int  # Hz
    compressed: bool = True  # whether it has a bit rate to choose
    lowest_kbps: int = 1


CODECS = {
    "mulaw": Codec("pcm_mulaw", "pcm_mulaw", 8000, compressed=False),  # ITU-T G.711, America and Japan
    "alaw": Codec("pcm_alaw", "pcm_alaw", 8000, compressed=False),  # ITU-T G.711, elsewhere
    "mp3": Codec("libmp3lame", "mp3float", 16000),
    "aac": Codec("aac", "aac", 16000),
    "opus": Codec("libopus", "opus", 16000, lowest_kbps=9),  # below it the decoder gives silence
}


def _resample(waveform: np.ndarray, before: int, after: int) -> np.ndarray:
    if before == after:
        return waveform
    from scipy import signal  # a second to import, and only training needs it

    common = np.gcd(before, after)
    return signal.resample_poly(waveform, after // common, before // common)


def code(waveform: np.ndarray, codec: str, kbps: int, sample_rate: int) -> np.ndarray:
    """float (T,) -> float32 (T,) after `codec` at `kbps` thousand bits per second, aligned with the input.

    G.711 ignores `kbps`: it has 64. Raises `ConfigError` where this PyAV was built without the codec, and for a
    rate at which the codec does not work.
    """
    kind = CODECS[codec]
    if kbps < kind.lowest_kbps:
        raise ConfigError(
            f"The codec {codec} was asked for at {kbps} kbit/s; give {kind.lowest_kbps} or more."
        )
    speech = np.clip(_resample(waveform, sample_rate, kind.sample_rate), -1.0, 1.0).astype(np.float32)
    decoded, rate, run_in = _round_trip(speech, kind, kbps)
    out = _resample(decoded[run_in:], rate, sample_rate).astype(np.float32)[: waveform.size]
    return np.pad(out, (0, waveform.size - out.size))


def _round_trip(speech: np.ndarray, kind: Codec, kbps: int) -> tuple[np.ndarray, int, int]:
    """Decoded samples, their rate, and how many of them the codec put before the first sample of `speech`."""
    import av  # with its libraries a fifth of a second

    try:
        encoder = av.CodecContext.create(kind.encoder, "w")
        decoder = av.CodecContext.create(kind.decoder, "r")
    except av.codec.codec.UnknownCodecError as error:
        raise ConfigError(
            f"This build of PyAV has no codec {error}; take it out of `codecs` or install PyAV from PyPI."
        ) from error
    tick = Fraction(1, kind.sample_rate)
    encoder.sample_rate, encoder.layout, encoder.time_base = kind.sample_rate, "mono", tick
    encoder.format = encoder.codec.audio_formats[0]
    if kind.compressed:
        encoder.bit_rate = kbps * 1000
    frame = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = kind.sample_rate, tick, 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    if encoder.extradata is not None:
        decoder.extradata = encoder.extradata
    decoder.sample_rate, decoder.layout = kind.sample_rate, "mono"
    frames = [decoded for packet in (*packets, None) for decoded in decoder.decode(packet)]
    samples = np.concatenate([_float(decoded.to_ndarray().ravel()) for decoded in frames])
    rate, run_in = frames[0].sample_rate, 0
    if len(frames) > 1:
        # the decoder cuts some codecs' run-in, and a first frame that was cut keeps its old time stamp: the
        # second one tells
        run_in = frames[0].samples - frames[1].pts * rate // kind.sample_rate
    return samples, rate, run_in


def _float(samples: np.ndarray) -> np.ndarray:
    return samples / np.float32(32768) if samples.dtype == np.int16 else samples

import av
import numpy as np
import pytest
import soundfile

from avdetect.errors import MediaError
from avdetect.media import read_audio, read_clip
from avdetect.media.audio import AudioCollector

RATE = 16000


def click_time(samples):
    """Middle of the 2 ms burst, seconds."""
    weight = np.maximum(np.abs(samples) - 0.2 * np.abs(samples).max(), 0)
    return float((weight * np.arange(len(samples))).sum() / weight.sum() / RATE)


def mouth_flash_time(track):
    level = track.mouths[:, 20:28, 20:28].mean(axis=(1, 2))
    return (track.mouth_start + int(np.argmax(level > 150))) / 25


@pytest.mark.parametrize("ext", ["mp4", "mkv"])
@pytest.mark.parametrize(("video_start", "sound_start"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (0.3, 0.7)])
def test_flash_and_click_coincide(tmp_path, media, detector, ext, video_start, sound_start):
    frames = [media.picture(mouth=255 if 30 <= index < 33 else 0) for index in range(60)]
    event = video_start + 30 / 25
    path = media.write_video(
        tmp_path / f"a.{ext}",
        frames,
        times=[video_start + i / 25 for i in range(60)],
        sound=media.click_track(2.4, event - sound_start),
        sound_start=sound_start,
    )
    clip = read_clip(path, detector=detector)
    (track,) = clip.tracks
    assert mouth_flash_time(track) == pytest.approx(1.2, abs=0.0401)
    assert click_time(clip.audio) == pytest.approx(1.2 + 0.001, abs=0.005)
    assert mouth_flash_time(track) == pytest.approx(click_time(clip.audio), abs=0.0401)
    if sound_start > video_start:
        lead = round((sound_start - video_start) * RATE)
        assert not clip.audio[: lead - 800].any()
    assert clip.info.audio_start_s == pytest.approx(sound_start, abs=0.03)


def test_flash_lands_within_one_grid_frame_at_29_97_fps(tmp_path, media, detector):
    frames = [media.picture(mouth=255 if 31 <= index < 35 else 0) for index in range(70)]
    times = [index * 1001 / 30000 for index in range(70)]
    path = media.write_video(
        tmp_path / "a.mp4", frames, times=times, fps=30, sound=media.click_track(2.3, times[31])
    )
    clip = read_clip(path, detector=detector)
    assert 0 <= mouth_flash_time(clip.tracks[0]) - times[31] <= 0.04
    assert click_time(clip.audio) == pytest.approx(times[31] + 0.001, abs=0.005)


@pytest.mark.parametrize(
    ("ext", "codec", "rate"),
    [
        ("wav", "pcm_s16le", 22050),
        ("flac", "flac", 44100),
        ("mp3", "libmp3lame", 44100),
        ("m4a", "aac", 44100),
        ("ogg", "libopus", 48000),
        ("opus", "libopus", 48000),
    ],
)
def test_audio_formats(tmp_path, media, ext, codec, rate):
    path = tmp_path / f"a.{ext}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        media.write_sound(container, stream, media.click_track(2, 1.25, rate), 0.0, rate)
    clip = read_clip(path)
    assert clip.kind == "audio" and clip.tracks == [] and clip.reasons == {"visual": "no video track"}
    assert clip.audio.dtype == np.float32 and clip.duration_s == pytest.approx(2, abs=0.06)
    assert click_time(clip.audio) == pytest.approx(1.251, abs=0.002)
    np.testing.assert_array_equal(clip.audio, read_audio(path))


def test_channels_are_averaged_and_level_kept(tmp_path):
    time = np.arange(44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "both.wav", np.stack([tone, tone], axis=1), 44100)
    soundfile.write(tmp_path / "left.wav", np.stack([tone, 0 * tone], axis=1), 44100)
    assert np.abs(read_audio(tmp_path / "both.wav")[800:-800]).max() == pytest.approx(0.5, abs=0.01)
    assert np.abs(read_audio(tmp_path / "left.wav")[800:-800]).max() == pytest.approx(0.25, abs=0.01)


def test_resampling_keeps_a_tone_and_removes_what_is_above(tmp_path):
    time = np.arange(2 * 48000) / 48000
    soundfile.write(tmp_path / "a.wav", 0.4 * np.sin(2 * np.pi * 1000 * time), 48000)
    soundfile.write(tmp_path / "high.wav", 0.4 * np.sin(2 * np.pi * 12000 * time), 48000)
    samples = read_audio(tmp_path / "a.wav")
    expected = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(len(samples)) / RATE)
    assert np.abs(samples - expected)[500:-500].max() < 2e-3
    assert np.abs(read_audio(tmp_path / "high.wav")[500:-500]).max() < 4e-3


def audio_frame(samples, start_s, rate=48000):
    from fractions import Fraction

    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
    frame.rate, frame.pts, frame.time_base = rate, round(start_s * rate), Fraction(1, rate)
    return frame


def test_gaps_become_silence_and_overlaps_are_dropped():
    ones = np.full(24000, 0.5)
    collector = AudioCollector(RATE)
    for start in (1.0, 2.0, 2.25):  # a gap of 0.5 s, then an overlap of 0.25 s
        collector.add(audio_frame(ones, start))
    samples = collector.finish(1.0)
    assert len(samples) / RATE == pytest.approx(1.75, abs=0.002)
    assert np.abs(samples[int(0.51 * RATE) : int(0.99 * RATE)]).max() == 0
    assert samples[int(1.1 * RATE) : int(1.7 * RATE)].min() > 0.4


def test_early_sound_is_cut_and_late_sound_padded():
    ramp = np.arange(48000) / 48000
    for clock, at, value in ((0.75, 0.0, 0.25), (0.0, 0.75, 0.25)):
        collector = AudioCollector(RATE)
        collector.add(audio_frame(ramp, 0.5))
        samples = collector.finish(clock)
        assert samples[round(at * RATE)] == pytest.approx(value, abs=0.002)
        assert len(samples) == round((1.5 - clock) * RATE)


def test_wild_time_stamps_do_not_fill_the_disk():
    collector = AudioCollector(RATE)
    collector.add(audio_frame(np.ones(4800), 0.0))
    collector.add(audio_frame(np.ones(4800), 1e6))
    assert len(collector.finish(0.0)) == pytest.approx(3200, abs=2)
    assert "jump" in collector.warnings[0]


def test_sample_rate_change_in_the_stream():
    collector = AudioCollector(RATE)
    collector.add(audio_frame(np.full(48000, 0.5), 0.0))
    collector.add(audio_frame(np.full(22050, 0.5), 1.0, rate=22050))
    samples = collector.finish(0.0)
    assert len(samples) == pytest.approx(2 * RATE, abs=20) and samples[RATE + 1000] == pytest.approx(
        0.5, abs=0.01
    )


def test_non_finite_samples_become_silence_with_a_warning(tmp_path):
    samples = np.zeros(1600, np.float32)
    samples[800:810] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    clip = read_clip(tmp_path / "a.wav")
    assert np.isfinite(clip.audio).all() and "no numbers" in clip.warnings[0]


def test_silent_video_has_a_reason(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 10)
    clip = read_clip(path, detector=detector)
    assert clip.audio is None and clip.reasons == {"audio": "no audio track"}
    with pytest.raises(MediaError, match="no audio track"):
        read_audio(path)

"""Lip-sync from files: the sign and size of the offset through real H.264 and AAC, and who of two is talking.

The encoder is made by hand, so that nothing but the way from the file to the windows is tested: embeddings are the
course of mouth opening, and of loudness, over five frames.
"""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.data.demo import scene, speech
from avdetect.data.demo.faces import paint_head, random_face, random_light
from avdetect.data.demo.features import Painter
from avdetect.encoders import create_encoder
from avdetect.evidence import collect_evidence
from avdetect.media import Detections, read_clip
from avdetect.media.faces import default_detector

SECONDS, RATE = 2.4, 48000
REST = 2.0  # sound before and after the picture


class OpeningMatchesLoudness(type(create_encoder("lipsync_small"))):
    """Dark mouths are open ones; evidence is the correlation of both courses, and its neutral point a half."""

    def _lips(self, mouths):
        return self._course(-mouths[:, :, 12:36, 8:40].mean(dim=(2, 3)))

    def _sound(self, waveform):
        return self._course(waveform.square().unflatten(1, (-1, 640)).mean(dim=2).add(1e-6).log())

    def _course(self, value):
        value = F.avg_pool1d(F.pad(value, (1, 1), "replicate").unsqueeze(1), 3, 1).squeeze(1)
        windows = value.unfold(1, 5, 1)
        return F.normalize(windows - windows.mean(dim=2, keepdim=True), dim=2)


@pytest.fixture(scope="module")
def by_hand():
    encoder = OpeningMatchesLoudness(channels=(4, 4, 4, 4), dim=8).eval()
    with torch.no_grad():
        encoder.log_scale.fill_(1.5)
        encoder.bias.fill_(-1.0)
    return {"lipsync": encoder}


class Talker:
    """A drawn head and what it says: `frame(t)` and `sound`, which begins `REST` seconds before time 0."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.camera = scene.Camera((256, 256), 0.0, 1.5)
        light, face = random_light(rng), random_face(rng)
        self.motion = scene.random_motion(self.camera, round(100 * SECONDS), 100.0, rng)
        self.drawn = {}
        self.painter = Painter(face, paint_head(face, light), light)
        self.backdrop = scene.paint_backdrop(face, light, self.camera, self.motion, rng)
        said = speech.speak(speech.random_voice(rng), SECONDS + 2 * REST, rng)
        self.sound = 0.1 * said.audio / speech.rms(said.audio)
        self.opening, self.rounding = said.opening, said.rounding

    def frame(self, time):
        if time not in self.drawn:
            self.drawn[time] = self._draw(time)
        return self.drawn[time]

    def _draw(self, time):
        at = (REST + time) * speech.CONTROL_RATE
        opening, rounding = (
            float(np.interp(at, np.arange(len(c)), c)) for c in (self.opening, self.rounding)
        )
        index = int(time * 100)
        texture = self.painter.paint(opening, rounding, self.motion.lid[index], self.motion.gaze[index])
        return np.asarray(scene.place_head(self.backdrop, texture, self.motion, index, opening))

    def heard(self, late_s):
        """(T,) at RATE beside the picture, `late_s` too late."""
        times = REST - late_s + np.arange(round(SECONDS * RATE)) / RATE
        return np.interp(times * speech.RATE, np.arange(len(self.sound)), self.sound).astype(np.float32)


@pytest.fixture(scope="module")
def talkers():
    return Talker(3), Talker(8)


class WhereTheyWere:
    """Finds in every picture the faces that MTCNN found in `picture`: heads sway by a few pixels only."""

    def __init__(self, picture):
        (self.found,) = default_detector().detect([picture], 60.0)

    def detect(self, images, min_face_px):
        return [
            Detections(self.found.boxes.copy(), self.found.probs.copy(), self.found.landmarks.copy())
            for _ in images
        ]


def write(path, times, draw, sound):
    """H.264 and AAC; the AAC encoder's run-in is left to the container, as any writer of MP4 leaves it."""
    clock = Fraction(1, 12800)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(draw(time), "rgb24")
            if number == 0:
                video.width, video.height, video.pix_fmt = picture.width, picture.height, "yuv420p"
                video.codec_context.time_base = clock
            picture.pts, picture.time_base = round(time / clock), clock
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path


def regular(fps):
    return np.arange(int(SECONDS * fps)) / fps


def irregular():
    """A phone's clock: 20 to 40 frames a second, and a gap of 120 ms."""
    steps = np.random.default_rng(1).uniform(1 / 40, 1 / 20, 400)
    steps[30] = 0.12
    times = np.concatenate([[0.0], np.cumsum(steps)])
    return times[times < SECONDS]


@pytest.mark.parametrize(("rate", "late_s"), [(25, 0.24), (25, -0.2), (30, -0.32), ("vfr", 0.16)])
def test_offset_of_a_file_is_positive_where_its_sound_is_late(tmp_path, by_hand, talkers, rate, late_s):
    times = irregular() if rate == "vfr" else regular(rate)
    path = write(tmp_path / "talk.mp4", times, talkers[0].frame, talkers[0].heard(late_s))
    with av.open(str(path)) as container:
        first = next(container.demux(container.streams.audio[0]))
        assert first.pts < 0  # the run-in is there, and players leave it out
    clip = read_clip(path, detector=WhereTheyWere(talkers[0].frame(0.0)))
    sync = collect_evidence(clip, by_hand).sync
    # the grid shows the frame that stands at its times: on average half a frame old, at 30 frames and in VFR too
    assert abs(sync.offset_ms - 1000 * late_s) <= 40.0
    assert sync.confidence > 0.9


@pytest.mark.parametrize("speaker", [0, 1])
def test_of_two_faces_the_talking_one_is_found(tmp_path, by_hand, talkers, speaker):
    """Both mouths move, each to its own words; only one voice is heard, 160 ms late."""

    def both(time):
        return np.concatenate([talker.frame(time) for talker in talkers], axis=1)

    path = write(tmp_path / "two.mp4", regular(25), both, talkers[speaker].heard(0.16))
    clip = read_clip(path, detector=WhereTheyWere(both(0.0)))
    assert len(clip.tracks) == 2
    middles = {track.id: float(track.boxes[:, [0, 2]].mean()) for track in clip.tracks}
    sync = collect_evidence(clip, by_hand).sync
    assert (middles[sync.track_id] > 256) == bool(speaker)
    assert abs(sync.offset_ms - 160.0) <= 40.0

"""A server in a process of its own, as a user starts it, and clips of drawn faces to give to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from avdetect.data.demo.clips import make_clip
from avdetect.data.demo.dataset import plan_clips
from avdetect.data.demo.miniature import Miniature

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`avdetect serve` on a free port."""

    def __init__(self, data: Path, *options: str, token: str | None = None):
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "AVDETECT_TOKEN": token or ""}
        environment.pop("AVDETECT_BUNDLE", None)
        data.mkdir(parents=True, exist_ok=True)
        self.log = open(data / "log.txt", "ab")
        command = [
            sys.executable,
            "-m",
            "avdetect",
            "serve",
            "--port",
            str(self.port),
            "--data",
            str(data / "web"),
        ]
        self.process = subprocess.Popen(
            [*command, *options], env=environment, cwd=data, stdout=self.log, stderr=self.log
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, (self.data / "log.txt").read_text()
            try:
                httpx.get(f"{self.url}/login")
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, (self.data / "log.txt").read_text()
                time.sleep(0.1)

    def client(self, **options) -> httpx.Client:
        """A browser as it were: it keeps its cookies."""
        cookies = options.pop("cookies", None) or httpx.get(self.url).cookies
        return httpx.Client(base_url=self.url, timeout=60, cookies=cookies, **options)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.log.close()


def send(client: httpx.Client, content: bytes, name: str = "clip.mp4") -> dict:
    answer = client.post("/api/jobs", params={"name": name}, content=content)
    assert answer.status_code == 202, answer.text
    return answer.json()


def ended(client: httpx.Client, job_id: str, timeout: float = 120) -> dict:
    """The job once it is done or failed."""
    deadline = time.monotonic() + timeout
    while True:
        job = client.get(f"/api/jobs/{job_id}").json()
        if job["state"] in ("done", "failed"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


@pytest.fixture(scope="session")
def start_server():
    return Server


@pytest.fixture(scope="session")
def upload():
    return send


@pytest.fixture(scope="session")
def wait_for():
    return ended


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(
        tmp_path_factory.mktemp("server"), "--max-mb", "20", "--jobs-per-client", "500", "--queue", "500"
    )
    yield running
    running.stop()


@pytest.fixture(scope="session")
def demo_fake(tmp_path_factory) -> Path:
    """A drawn person whose face was swapped."""
    plan = next(plan for plan in plan_clips(12, 0) if plan.method == "face_swap")
    path = tmp_path_factory.mktemp("fake") / "swapped.mp4"
    make_clip(plan, path, 0, (2.4, 2.4))
    return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory) -> Path:
    """A second and a half of a made voice: the quickest thing to judge."""
    return Miniature().speech(tmp_path_factory.mktemp("voice") / "voice.wav", 0, fake=False, seconds=1.5)

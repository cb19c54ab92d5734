"""Uploads made to do harm: refused at the door or contained in the analysing process; the server goes on."""

import struct
import time
import zipfile
import zlib
from fractions import Fraction
from io import BytesIO

import av
import httpx
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def still_answers(server, voice, upload, wait_for):
    """After each of these the server judges a file as before, and nothing lies about."""
    yield
    with server.client() as client:
        assert wait_for(client, upload(client, voice.read_bytes())["id"])["state"] == "done"
    assert not list((server.data / "web" / "incoming").iterdir())


REFUSED = (413, None)


def status_of(client: httpx.Client, content, headers=None) -> int | None:
    """None where the server closed the connection on a sender that did not stop to listen."""
    try:
        with client.stream("POST", "/api/jobs?name=big.mp4", content=content, headers=headers) as answer:
            return answer.status_code
    except httpx.TransportError:
        return None


def test_a_file_over_the_limit_is_told_so(server):
    with server.client() as client:
        answer = client.post("/api/jobs?name=big.mp4", content=b"\0\0\0\x18ftypmp42" + b"\0" * 20_000_000)
    assert answer.status_code == 413 and "larger than 20 MB" in answer.json()["detail"]


def png(width: int, height: int, rows: int) -> bytes:
    """A black PNG that announces `height` rows and holds `rows` of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), b"\0" * (width // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_other_files_under_a_media_name_are_refused_at_the_door(server):
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "x" * 10_000)
    cases = {
        "a zip archive": archive.getvalue(), "text": b"<html><script>alert(1)</script>", "a program": b"\x7fELF\2" * 99,
        "a playlist": b"#EXTM3U\nhttp://127.0.0.1/secret", "of a kind that is not known": bytes(range(256)) * 40,
        "a PDF": b"%PDF-1.7\n" + b"\0" * 50,
    }  # fmt: skip
    with server.client() as client:
        for said, content in cases.items():
            answer = client.post("/api/jobs?name=clip.mp4", content=content)
            assert answer.status_code == 415 and said in answer.json()["detail"], (said, answer.text)
        assert client.post("/api/jobs?name=clip.mp4", content=b"").status_code == 400
        assert client.get("/api/jobs").json() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(60_000, 60_000, 60_000), "60000 × 60000 pixels"),
        (png(300, 300, 300)[:60], "damaged picture"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 5000, "cannot be read as media"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt " + b"\xff" * 3000, None),
        (b"II*\0" + b"\xff" * 3000, None),
        (b"\x1aE\xdf\xa3" + b"\xff" * 3000, "cannot be read as media"),
    ],
    ids=["png-of-60000-pixels", "cut-png", "empty-mp4", "wav", "tiff", "mkv"],
)
def test_damaged_and_oversized_media_end_with_a_reason(server, upload, wait_for, content, said):
    with server.client() as client:
        job = wait_for(client, upload(client, content, "bad.png")["id"])
        assert job["state"] == "failed" and job["reason"] and (said is None or said in job["reason"]), job
        assert "/" not in job["reason"].replace("MPEG/", ""), "no path of the server is told"
        assert client.get(job["report"]).status_code == 409
        assert job["reason"].split("(")[0][:20] in client.get(job["page"]).text


def test_an_endless_mp4_is_cut_off_by_size_and_by_duration(server, tmp_path, upload, wait_for):
    """A few kilobytes that last a day, and a fragmented file that never stops coming."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=1)
        stream.time_base = Fraction(1)
        stream.width = stream.height = 64
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index * 9000, Fraction(1)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with server.client() as client:
        job = wait_for(client, upload(client, path.read_bytes(), "long.mp4")["id"])
        assert job["state"] == "failed" and "lasts" in job["reason"] and "up to 600 s" in job["reason"], job
        fragment = struct.pack(">I4s", 2**20, b"mdat") + b"\0" * (2**20 - 8)

        def endless():
            yield path.read_bytes()[:32]
            while True:
                yield fragment

        assert status_of(client, endless()) in REFUSED


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>.wav", "script>.wav"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.wav", "boot.wav"),
        ("a\r\nSet-Cookie: x=1\x00\x1b[31m.wav", "aSet-Cookie: x=1[31m.wav"),
        ("..", "unnamed file"),
        ("x" * 900 + ".wav", None),
        ("\u202egpj.exe", "gpj.exe"),
        ("", "unnamed file"),
        ("{{7*7}}%s.wav", "{{7*7}}%s.wav"),
    ],
)
def test_a_file_name_is_words_and_nothing_else(server, voice, wait_for, name, shown):
    """Sent both ways; it reaches neither the disk nor the page as it is."""
    with server.client() as client:
        sent = [client.post("/api/jobs", params={"name": name}, content=voice.read_bytes())]
        if name:
            sent.append(client.post("/api/jobs", files={"file": (name, voice.read_bytes())}))
        for answer in sent:
            assert answer.status_code == 202, answer.text
            job = answer.json()
            assert len(job["name"]) <= 120 and (
                shown is None or answer is not sent[0] or job["name"] == shown
            )
            done = wait_for(client, job["id"])
            assert done["state"] == "done" and done["verdict"]["path"] == job["name"]
            page = client.get("/").text + client.get(job["page"]).text
            assert "<script>alert" not in page and "49%s" not in page
            files = {path.name for path in (server.data / "web" / "jobs" / job["id"]).iterdir()}
            assert files == {"upload", "report.html"}


@pytest.mark.parametrize("announced", [True, False])
def test_five_gigabytes_are_refused_long_before_they_are_sent(server, announced):
    size, sent = 5_000_000_000, 0
    block = b"\0\0\0\x18ftypmp42" + b"\0" * (2**20 - 12)

    def stream():
        nonlocal sent
        while sent < size:
            sent += len(block)
            yield block

    headers = {"content-length": str(size)} if announced else {}
    begin = time.monotonic()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert status_of(client, stream(), headers) in REFUSED
    assert sent < size and time.monotonic() - begin < 20

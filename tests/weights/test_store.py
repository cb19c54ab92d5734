"""The store against a local HTTP server that behaves, and one that does not."""

import errno
import hashlib
import http.server
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from avdetect.errors import WeightsError
from avdetect.weights import Published, cached_file, import_file, is_cached, pull
from avdetect.weights import download as download_module

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """What to do wrong, and for how many requests, stands in the server's `faults`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        fault = server.faults.pop(0) if server.faults else ""
        if fault == "silent":
            server.released.wait(20)
            return
        if fault.isdigit():
            self.send_error(int(fault))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and fault != "no ranges" else 0
        body = server.content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            shown = 7 if fault == "other range" else start
            self.send_header(
                "Content-Range", f"bytes {shown}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                server.released.wait(20)
            self.close_connection = True
        else:
            time.sleep(server.delay_s)
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.faults, server.ranges, server.content, server.delay_s = [], [], CONTENT, 0.0
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def entry(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AVDETECT_CACHE", str(tmp_path / "cache"))
    url = f"http://127.0.0.1:{server.server_port}/weights/net.pth"
    texts = dict.fromkeys(
        ("publisher", "licence", "terms", "training_data", "score", "score_source", "polarity"), "x"
    )
    return Published("net.test", "net", url=url, restricted=False, sha256=HASH, **texts)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def quick(entry, **options):
    return pull(entry, **{"timeout_s": 0.5, "wait_s": 0.01, "attempts": 3, **options})


def test_a_download_is_verified_named_and_not_repeated(entry, server, tmp_path):
    seen = []
    path = pull(entry, lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "cache" / "net.test.pth" and path.read_bytes() == CONTENT
    assert visible(path.parent) == ["net.test.pth"] and cached_file(entry) == path
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) > 4
    assert pull(entry) == path and len(server.ranges) == 1


def test_a_broken_connection_is_continued(entry, server):
    server.faults = ["cut", "cut"]
    assert quick(entry).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_later_call_continues_too(entry, server, tmp_path):
    server.faults = ["cut", "cut", "cut"]
    with pytest.raises(WeightsError, match=r"in 3 attempts: the connection broke off after \d+") as caught:
        quick(entry)
    kept = len(CONTENT) * 7 // 8
    assert f"{kept} bytes are kept, pull again" in str(caught.value) and "\n" not in str(caught.value)
    assert visible(tmp_path / "cache") == [".net.test.pth.part"] and not is_cached(entry)
    assert quick(entry).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={kept}-" and visible(tmp_path / "cache") == ["net.test.pth"]


def test_a_server_without_ranges_sends_all_again(entry, server):
    server.faults = ["cut", "no ranges"]
    assert quick(entry).read_bytes() == CONTENT
    assert server.ranges[1] is not None


def test_a_wrong_range_is_not_joined(entry, server):
    server.faults = ["cut", "other range"]
    assert quick(entry).read_bytes() == CONTENT
    assert server.ranges[2] is None


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"of another file" * 1000])
def test_what_an_earlier_call_left_is_used_or_thrown_away(entry, server, tmp_path, part):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".net.test.pth.part").write_bytes(part)
    assert quick(entry).read_bytes() == CONTENT
    assert visible(tmp_path / "cache") == ["net.test.pth"]


def test_wrong_content_never_gets_the_name(entry, server, tmp_path):
    server.content = b"<html>please log in</html>"
    with pytest.raises(
        WeightsError, match="is not net.test .*SHA-256.*thrown away, nothing else was changed"
    ):
        quick(entry)
    assert visible(tmp_path / "cache") == [] and len(server.ranges) == 1


def test_a_good_file_survives_a_bad_download(entry, server, tmp_path):
    good = quick(entry)
    server.content = b"other content"
    newer = replace(entry, sha256="0" * 64)  # the catalogue now expects another file
    with pytest.raises(WeightsError, match="SHA-256 does not begin with 000000000000"):
        quick(newer)
    assert good.read_bytes() == CONTENT and cached_file(entry) == good
    with pytest.raises(WeightsError, match="other SHA-256.*run `avdetect weights pull net.test` again"):
        cached_file(newer)


def test_a_damaged_file_is_said_and_replaced(entry):
    path = quick(entry)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="is not the file that was published"):
        cached_file(entry)
    assert quick(entry).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "faults, requests, message",
    [
        (["404"], 1, r"answered 404 Not Found; .*`avdetect weights import`"),
        (["403"], 1, r"answered 403 Forbidden"),
        (["503"] * 3, 3, r"in 3 attempts: the server answered 503 Service Unavailable; try again later"),
        (["silent"] * 3, 3, r"in 3 attempts: the server was silent for 0.5 s"),
        (["stall"] * 3, 3, r"the server was silent for 0.5 s; \d+ bytes are kept"),
    ],
)
def test_refusals_and_silence(entry, server, tmp_path, faults, requests, message):
    server.faults = faults
    with pytest.raises(WeightsError, match=message) as caught:
        quick(entry)
    assert "\n" not in str(caught.value) and entry.url in str(caught.value)
    assert len(server.ranges) == requests and not is_cached(entry)
    server.faults = []
    assert quick(entry).read_bytes() == CONTENT


def test_passing_faults_are_waited_out(entry, server):
    server.faults = ["503", "silent"]
    assert quick(entry).read_bytes() == CONTENT


def test_nobody_listens(entry, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(WeightsError, match=r"no connection to the server \(Connection refused\); try again"):
        quick(replace(entry, url=f"http://127.0.0.1:{port}/net.pth"))
    assert visible(tmp_path / "cache") == []


def test_a_full_disk(entry, tmp_path, monkeypatch):
    other = tmp_path / "cache" / "other.pth"
    other.parent.mkdir()
    other.write_bytes(b"good")

    class Full:
        def __init__(self, *args):
            self.stream = open(*args)
            self.room = 200_000

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.stream.write(data)

    monkeypatch.setattr(download_module, "open", Full, raising=False)
    with pytest.raises(
        WeightsError, match=r"cannot be written to \(the disk is full\); make room.*AVDETECT_CACHE"
    ):
        quick(entry)
    assert visible(tmp_path / "cache") == ["other.pth"] and other.read_bytes() == b"good"


def test_a_limit_of_the_system_on_file_size(entry, tmp_path):
    """The kernel refuses the write in a process of its own, as it does on a full disk."""
    code = (
        "import dataclasses, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from avdetect.weights import Published, pull\n"
        f"entry = Published(**{entry.to_dict()!r})\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (300000, {resource.RLIM_INFINITY}))\n"
        "try:\n    pull(entry)\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("WeightsError") and "files may not grow so large" in done.stdout
    assert visible(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made(entry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVDETECT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be written to \(Not a directory\)"):
        quick(entry)


def test_two_processes_want_the_same_file(entry, server, tmp_path):
    server.delay_s = 0.5
    code = f"from avdetect.weights import Published, pull\nprint(pull(Published(**{entry.to_dict()!r})))"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=30)[0].strip() for process in both]
    assert outputs == [str(tmp_path / "cache" / "net.test.pth")] * 2
    assert len(server.ranges) == 1 and cached_file(entry).read_bytes() == CONTENT


def test_nothing_unverified_is_downloaded(entry, server):
    with pytest.raises(
        WeightsError, match=r"No SHA-256 is known for net.test.*weights import FILE --as net.test"
    ):
        pull(replace(entry, sha256=None))
    assert server.ranges == []


def test_missing_weights_say_how_to_get_them(entry):
    with pytest.raises(WeightsError, match="not in the cache; run `avdetect weights pull net.test`"):
        cached_file(entry)
    with pytest.raises(
        WeightsError, match="not in the cache; run `avdetect weights import FILE --as net.test`"
    ):
        cached_file(replace(entry, sha256=None))


def test_import_checks_the_hash_and_the_network(entry, tmp_path):
    file = tmp_path / "downloaded by hand.bin"
    file.write_bytes(CONTENT)
    loaded = []
    path = import_file(file, entry, lambda copy: loaded.append((copy.suffix, copy.read_bytes() == CONTENT)))
    assert loaded == [(".pth", True)] and cached_file(entry) == path and file.exists()

    file.write_bytes(b"another")
    with pytest.raises(
        WeightsError, match="by hand.bin is not net.test: its SHA-256 is [0-9a-f]{64}, the published"
    ):
        import_file(file, entry, loaded.append)
    assert len(loaded) == 1 and path.read_bytes() == CONTENT
    with pytest.raises(WeightsError, match="absent.pth does not exist"):
        import_file(tmp_path / "absent.pth", entry, loaded.append)


def test_import_without_a_published_hash_records_it(entry, tmp_path):
    entry = replace(entry, sha256=None)
    file = tmp_path / "net.pth"
    file.write_bytes(CONTENT)

    def refuse(copy):
        raise WeightsError(f"{copy} does not fit")

    with pytest.raises(WeightsError) as caught:
        import_file(file, entry, refuse)
    assert str(caught.value) == f"{file} does not fit"  # the user's file, not the copy beside the cache
    assert not is_cached(entry) and visible(tmp_path / "cache") == []

    path = import_file(file, entry, lambda copy: None)
    assert visible(path.parent) == ["net.test.pth", "net.test.pth.sha256"] and cached_file(entry) == path
    subprocess.run(
        ["sha256sum", "-c", "net.test.pth.sha256"], cwd=path.parent, check=True, capture_output=True
    )
    path.write_bytes(b"changed")
    with pytest.raises(WeightsError, match="other SHA-256"):
        cached_file(entry)


def test_the_folder_of_the_cache(monkeypatch, entry):
    monkeypatch.delenv("AVDETECT_CACHE")
    import pooch

    from avdetect.weights.store import place

    assert place(entry) == pooch.os_cache("avdetect") / "net.test.pth"

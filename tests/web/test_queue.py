"""Many at once, kills in the middle, and limits of an analysis."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from PIL import Image

from avdetect.errors import ConfigError
from avdetect.web.settings import Limits
from avdetect.web.store import JobStore, Sender, TooManyJobs


def test_twenty_at_once_and_a_kill_lose_and_double_nothing(
    tmp_path, start_server, demo_fake, voice, upload, wait_for
):
    server = start_server(tmp_path, "--no-samples")
    clients = [server.client() for _ in range(4)]
    files = [demo_fake if n % 10 == 2 else voice for n in range(20)]
    names = [f"{n}{path.suffix}" for n, path in enumerate(files)]
    with ThreadPoolExecutor(20) as pool:
        jobs = list(pool.map(lambda n: upload(clients[n % 4], files[n].read_bytes(), names[n]), range(20)))
    assert len({job["id"] for job in jobs}) == 20

    deadline = time.monotonic() + 60
    while sum(clients[0].get(f"/api/jobs/{job['id']}").json()["state"] == "done" for job in jobs) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.kill()
    database = tmp_path / "web" / "jobs.sqlite3"
    with sqlite3.connect(database) as db:
        before = dict(db.execute("SELECT id, finished FROM jobs WHERE state = 'done'").fetchall())
        assert db.execute("SELECT COUNT(*) FROM jobs").fetchone()[0] == 20
        assert 3 <= len(before) < 20, "the kill came in the middle"

    again = start_server(tmp_path, "--no-samples")
    try:
        with again.client(cookies=clients[0].cookies) as client:
            for number, job in enumerate(jobs):
                found = wait_for(client, job["id"])
                assert found["state"] == "done" and found["verdict"]["path"] == names[number]
                assert client.get(job["report"]).status_code == 200
            assert {job["name"] for job in client.get("/api/jobs").json()} == set(names[::4])
    finally:
        again.stop()
    with sqlite3.connect(database) as db:
        rows = db.execute("SELECT id, state, attempts, finished, verdict FROM jobs").fetchall()
    assert {row[0] for row in rows} == {job["id"] for job in jobs} and len(rows) == 20
    assert all(row[1] == "done" and row[4] for row in rows)
    for job_id, _, attempts, finished, _ in rows:
        assert job_id not in before or (attempts == 1 and finished == before[job_id]), (
            "judged once, left alone"
        )
    assert sum(row[2] for row in rows) <= 21, "at most the one that was running is begun again"
    assert not list((tmp_path / "web" / "incoming").iterdir())


@pytest.mark.slow
def test_an_analysis_that_takes_too_long_or_too_much_ends_with_a_reason(
    tmp_path, start_server, voice, upload, wait_for
):
    """The process is ended and replaced; the next file has its verdict."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (5900, 6000, 3), np.uint8)).save(
        tmp_path / "big.bmp"
    )
    server = start_server(tmp_path / "small", "--no-samples", "--memory-gb", "0.25")
    try:
        with server.client() as client:
            big = upload(client, (tmp_path / "big.bmp").read_bytes(), "big.bmp")
            found = wait_for(client, big["id"])
            assert found["state"] == "failed" and "memory" in found["reason"], found
    finally:
        server.stop()
    server = start_server(tmp_path / "late", "--no-samples", "--time-limit", "1")
    try:
        with server.client() as client:
            soundfile.write(
                tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 500 * 16000), 16000
            )
            slow = upload(client, (tmp_path / "long.wav").read_bytes(), "long.wav")
            found = wait_for(client, slow["id"])
            assert found["state"] == "failed" and "longer than 1 s" in found["reason"], found
            assert wait_for(client, upload(client, voice.read_bytes())["id"])["state"] == "done"
    finally:
        server.stop()


@pytest.fixture
def store(tmp_path):
    opened = JobStore(tmp_path / "data")
    yield opened
    opened.close()


def put(store, client="c", limits=None, known=True):
    upload = store.incoming()
    upload.write_bytes(b"x")
    return store.add(upload, Sender(client, "1.2.3.4", known), "x.wav", limits or Limits())


def reopened(store):
    store.close()
    other = JobStore(store.folder)
    store._db, store._lock_file = other._db, other._lock_file
    return other


def test_one_server_per_folder(store):
    with pytest.raises(ConfigError, match="another server"):
        JobStore(store.folder)


def test_the_queue_and_each_client_have_their_limits(store):
    limits = Limits(jobs_per_client=2, queue=3)
    put(store, limits=limits), put(store, limits=limits)
    with pytest.raises(TooManyJobs, match="2 of your files"):
        put(store, limits=limits)
    with pytest.raises(TooManyJobs, match="2 of your files"):
        put(store, "throws its cookies away", limits, known=False)
    put(store, "other", limits)
    with pytest.raises(TooManyJobs, match="3 files are waiting"):
        put(store, "third", limits)
    assert len(list((store.folder / "jobs").iterdir())) == 3
    job = store.take()
    store.finish(job.id, "{}", "real")
    put(store, limits=limits)


def test_jobs_are_taken_in_order_and_once(store):
    jobs = [put(store) for _ in range(3)]
    assert [store.ahead_of(job) for job in jobs] == [0, 1, 2]
    with ThreadPoolExecutor(8) as pool:
        taken = [job for job in pool.map(lambda _: store.take(), range(8)) if job]
    assert sorted(job.id for job in taken) == sorted(job.id for job in jobs)


def test_a_file_that_ends_the_server_again_and_again_is_given_up(store):
    job = put(store)
    for attempt in (1, 2, 3):
        assert store.take().attempts == attempt
        reopened(store)
    found = store.get(job.id)
    assert found.state == "failed" and "broke off 3 times" in found.reason
    assert store.take() is None


def test_a_good_stop_is_no_attempt_and_a_deleted_job_stays_so(store):
    job = put(store)
    store.take()
    store.give_back(job.id)
    assert store.take().attempts == 1
    store.delete(job.id)
    store.finish(job.id, "{}", "real")
    store.fail(job.id, "late")
    assert store.get(job.id) is None and not store.file(job.id, "upload").parent.exists()


def test_files_without_a_job_are_cleared_away_at_start(store):
    job = put(store)
    (store.folder / "jobs" / "f00").mkdir()
    (store.folder / "scratch" / "torch").mkdir()
    store.incoming().write_bytes(b"half")
    reopened(store)
    assert [path.name for path in (store.folder / "jobs").iterdir()] == [job.id]
    assert not list((store.folder / "incoming").iterdir()) + list((store.folder / "scratch").iterdir())


def test_uploads_and_results_go_when_their_time_is_over(store):
    job, waiting = put(store), put(store)
    store.take()
    store.finish(job.id, "{}", "real")
    store.sweep(keep_uploads_s=60, keep_results_s=60)
    assert store.file(job.id, "upload").exists()
    store.sweep(keep_uploads_s=0, keep_results_s=60)
    assert not store.file(job.id, "upload").exists() and store.verdict(job.id) == "{}"
    store.sweep(keep_uploads_s=0, keep_results_s=0)
    assert store.get(job.id) is None
    assert store.get(waiting.id).state == "queued" and store.file(waiting.id, "upload").exists()

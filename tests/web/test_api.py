"""The REST interface of a running server."""

import json
import re

from avdetect.inference.verdict import validate

STAGES = ["decode", "faces", "voice", "lipsync", "fusion", "report"]


def without_times(text: str) -> str:
    """A verdict's JSON text but for the seconds that its making took."""
    shorter, count = re.subn(r'"timing_s": \{[^}]*\}', "", text)
    assert count == 1
    return shorter


def test_a_verdict_is_the_command_lines_byte_for_byte(server, upload, wait_for, demo_fake, run_python):
    with server.client() as client:
        job = upload(client, demo_fake.read_bytes(), demo_fake.name)
        assert job["state"] in ("queued", "running") and job["name"] == demo_fake.name
        done = wait_for(client, job["id"])
        assert done["state"] == "done", done
        text = client.get(job["verdict_json"]).text
    told = run_python("-m", "avdetect", "predict", demo_fake.name, "--json", cwd=demo_fake.parent)
    assert without_times(text) == without_times(told.stdout.rstrip("\n"))
    validate(json.loads(text))
    assert done["verdict"] == json.loads(text) and done["label"] == done["verdict"]["label"]


def test_the_stages_are_told_as_they_come(server, upload, demo_fake):
    events = []
    with server.client() as client:
        job = upload(client, demo_fake.read_bytes())
        with client.stream("GET", job["events"]) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
    states = [event["state"] for event in events]
    assert states[-1] == "done" and states == sorted(states, key=["queued", "running", "done"].index)
    seen = [event["stage"] for event in events if event["stage"]]
    assert seen == sorted(seen, key=STAGES.index) and "faces" in seen, "looked at four times a second"


def test_a_form_with_one_file_is_taken_and_one_with_two_is_not(server, voice, wait_for):
    sound = voice.read_bytes()
    with server.client() as client:
        answer = client.post("/api/jobs", files={"file": ("Größe “1”.wav", sound)})
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert job["name"] == "Größe “1”.wav" and job["size_bytes"] == len(sound)
        done = wait_for(client, job["id"])
        assert done["state"] == "done" and done["verdict"]["path"] == job["name"]
        two = client.post("/api/jobs", files=[("file", ("a.wav", sound)), ("file", ("b.wav", sound))])
        none = client.post("/api/jobs", files={"other": ("a.wav", sound)})
        broken = client.post(
            "/api/jobs",
            content=b"--x\r\nno header",
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
    assert [answer.status_code for answer in (two, none, broken)] == [400, 400, 400]
    assert "at most 1 file" in two.json()["detail"] and "choose one" in none.json()["detail"]


def test_a_job_belongs_to_the_browser_that_gave_it(server, voice, upload, wait_for):
    """Others read it by its link, and neither find nor delete it."""
    with server.client() as mine, server.client() as other:
        job = upload(mine, voice.read_bytes(), "mine.wav")
        own = f"/api/jobs/{job['id']}"
        assert [found["id"] for found in mine.get("/api/jobs").json()] == [job["id"]]
        assert other.get("/api/jobs").json() == [] and "mine.wav" not in other.get("/").text
        assert other.get(own).status_code == 200
        refused = other.delete(own)
        assert refused.status_code == 403 and "browser that uploaded" in refused.json()["detail"]
        assert other.post(f"/jobs/{job['id']}/delete").status_code == 403
        wait_for(mine, job["id"])
        assert "Delete" in mine.get(f"/jobs/{job['id']}").text
        assert f"/jobs/{job['id']}/delete" not in other.get(f"/jobs/{job['id']}").text
        folder = server.data / "web" / "jobs" / job["id"]
        assert folder.exists()
        assert mine.delete(own).status_code == 204
        assert (
            not folder.exists() and mine.get(own).status_code == 404 and mine.delete(own).status_code == 404
        )
        assert mine.get("/api/jobs").json() == []


def test_a_job_can_be_deleted_while_it_runs(server, demo_fake, voice, upload, wait_for):
    with server.client() as client:
        job = upload(client, demo_fake.read_bytes())
        with client.stream("GET", job["events"]) as stream:
            for line in stream.iter_lines():
                if '"state":"running"' in line:
                    break
        assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
        after = upload(client, voice.read_bytes())  # by another process: that one was ended
        assert wait_for(client, after["id"])["state"] == "done"
        assert client.get(f"/api/jobs/{job['id']}").status_code == 404


def test_what_is_not_there_is_said(server, upload, voice):
    unknown = "0" * 32
    with server.client() as client:
        for part in ("", "/events", "/report", "/verdict"):
            answer = client.get(f"/api/jobs/{unknown}{part}")
            assert answer.status_code == 404 and "no such job" in answer.json()["detail"], part
        assert client.get("/api/jobs/..%2f..%2fetc").status_code in (404, 422)
        assert client.post("/api/samples/nothing").status_code == 422
        page = client.get(f"/jobs/{unknown}")
        assert page.status_code == 404 and "Back to the start" in page.text
        for path in ("/static/", "/static/../app.py", "/static/..%2fapp.py", "/jobs/", "/samples/x.jpg"):
            assert client.get(path).status_code in (404, 422), path


def test_the_report_is_one_file_to_keep(server, voice, upload, wait_for):
    with server.client() as client:
        job = upload(client, voice.read_bytes(), "<img src=x onerror=alert(1)>.wav")
        wait_for(client, job["id"])
        kept, page = client.get(job["report"]), client.get(job["page"])
    for answer in (kept, page):
        assert (
            answer.status_code == 200 and "<img src=x" not in answer.text and "&lt;img src=x" in answer.text
        )
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert "/static/" not in kept.text and "<nav" not in kept.text, (
        "nothing of the server's in a page to keep"
    )
    assert '<nav class="bar"' in page.text

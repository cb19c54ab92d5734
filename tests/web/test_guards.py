"""Who may ask, and from where: told by the application itself, without a process of its own."""

import json

import pytest
from fastapi.testclient import TestClient

from avdetect.errors import ConfigError
from avdetect.inference.card import BUILTIN_FOLDER
from avdetect.web.app import create_app
from avdetect.web.settings import Settings

TOKEN = "a-token-of-24-characters"
SOUND = b"RIFF\x24\0\0\0WAVEfmt "


@pytest.fixture
def opened(tmp_path):
    """Clients of applications that analyse nothing: their workers are not started."""
    stores = []

    def client(**settings):
        data = tmp_path / str(len(stores))
        app = create_app(Settings(data, BUILTIN_FOLDER, samples=False, **settings))
        stores.append(app.state.services.store)
        return TestClient(app, base_url="http://localhost:8000", follow_redirects=False)

    yield client
    for store in stores:
        store.close()


def send(client, **headers):
    return client.post("/api/jobs?name=a.wav", content=SOUND, headers=headers)


def test_every_answer_has_its_safety_headers(opened):
    client = opened()
    unknown = "0" * 32
    for path in (
        "/",
        "/api/jobs",
        "/static/app.js",
        "/static/report.css",
        f"/jobs/{unknown}",
        "/nothing",
        "/api/openapi.json",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin" and headers["x-frame-options"] == "DENY"
    assert send(client, host="evil.example").headers["x-content-type-options"] == "nosniff"


def test_the_cookie_is_kept_from_scripts_and_other_sites(opened):
    client = opened()
    cookie = client.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert "set-cookie" not in client.get("/").headers, "it is kept"
    client.cookies.clear()
    client.cookies.set("avdetect_client", "'; DROP TABLE jobs; --")
    assert "avdetect_client=" in client.get("/").headers["set-cookie"], (
        "a cookie of somebody's making is replaced"
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8000"]
)
def test_a_foreign_name_for_this_server_is_not_answered(opened, host):
    answer = opened().get("/", headers={"host": host})
    assert answer.status_code == 421 and "--allow-host" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5", "Media.example:443"]
)
def test_its_own_names_are_answered(opened, host):
    assert opened(hosts=("media.example",)).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:8000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost:8000"}, 202),
        ({"origin": "http://localhost:8000"}, 202),
        ({"sec-fetch-site": "none"}, 202),
        ({}, 202),
    ],
)
def test_other_sites_cannot_make_a_browser_upload(opened, headers, status):
    client = opened()
    assert send(client, **headers).status_code == status
    for path in ("/upload", "/login", f"/jobs/{'0' * 32}/delete", "/samples/genuine"):
        assert (client.post(path, headers=headers).status_code == 403) == (status == 403), path
    assert len(client.get("/api/jobs").json()) == (status == 202)


def test_the_token_opens_everything_and_nothing_is_open_without_it(opened):
    client = opened(token=TOKEN)
    assert client.get("/").headers["location"] == "/login" and client.get("/login").status_code == 200
    for path in ("/api/jobs", "/api/openapi.json", f"/api/jobs/{'0' * 32}"):
        answer = client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert send(client).status_code == 401
    assert send(client, authorization="Bearer wrong").status_code == 401
    assert send(client, authorization=f"Bearer {TOKEN}").status_code == 202
    assert client.get("/static/app.css").status_code == 200
    wrong = client.post("/login", data={"token": "wrong"})
    assert wrong.status_code == 401 and "not the token" in wrong.text
    assert client.post("/login", content=b"token=" + b"x" * 9000).status_code == 413
    right = client.post("/login", data={"token": TOKEN})
    assert right.status_code == 303 and TOKEN not in right.headers["set-cookie"]
    assert client.get("/").status_code == 200 and client.get("/api/jobs").status_code == 200


def test_a_server_for_others_needs_a_token_or_a_word(tmp_path):
    for host in ("0.0.0.0", "192.168.1.5", "::", "media.example"):
        with pytest.raises(ConfigError, match="AVDETECT_TOKEN"):
            Settings(tmp_path, BUILTIN_FOLDER, host=host)
        Settings(tmp_path, BUILTIN_FOLDER, host=host, token=TOKEN)
        Settings(tmp_path, BUILTIN_FOLDER, host=host, without_token=True)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        Settings(tmp_path, BUILTIN_FOLDER, host=host)
    with pytest.raises(ConfigError, match="can be guessed"):
        Settings(tmp_path, BUILTIN_FOLDER, token="short")


def test_a_plain_form_takes_several_files_and_leads_on(opened):
    """Without JavaScript: one file leads to its page, several to the history."""
    client = opened()
    one = client.post("/upload", files={"file": ("a.wav", SOUND)})
    assert one.status_code == 303 and one.headers["location"].startswith("/jobs/")
    page = client.get(one.headers["location"]).text
    assert "a.wav" in page and 'http-equiv="refresh"' in page and "It is next." in page
    two = client.post("/upload", files=[("file", ("b.wav", SOUND)), ("file", ("c.wav", SOUND))])
    assert two.headers["location"] == "/#history" and len(client.get("/api/jobs").json()) == 3
    mixed = client.post("/upload", files=[("file", ("d.wav", SOUND)), ("file", ("e.zip", b"PK\x03\x04"))])
    assert mixed.status_code == 415 and "e.zip is a zip archive" in mixed.text
    assert client.post("/upload", files={"other": b""}).status_code == 400
    gone = client.post(f"{one.headers['location']}/delete")
    assert gone.status_code == 303 and len(client.get("/api/jobs").json()) == 2


def test_the_schema_names_what_can_go_wrong(opened):
    schema = json.loads(opened().get("/api/openapi.json").text)
    responses = schema["paths"]["/api/jobs"]["post"]["responses"]
    assert {"202", "400", "401", "403", "408", "413", "415", "421", "422", "429", "507"} == set(responses)
    assert set(schema["paths"]) == {
        "/api/jobs", "/api/samples/{name}", "/api/jobs/{job_id}", "/api/jobs/{job_id}/verdict",
        "/api/jobs/{job_id}/report", "/api/jobs/{job_id}/events",
    }  # fmt: skip

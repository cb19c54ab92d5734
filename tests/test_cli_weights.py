"""`avdetect weights …` and `avdetect encoders NAME`."""

import functools
import hashlib
import http.server
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avdetect.cli import app
from avdetect.encoders import create_encoder, load_encoder, save_encoder
from avdetect.errors import AvdetectError, WeightsError
from avdetect.weights import catalog, commands, list_published, store

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
CATALOG = """
[publishers.local]
publisher = "somebody"
licence = "{licence}"
restricted = {restricted}
terms = "Not for sale."
training_data = "one clip"
score = "not published"
score_source = ""
polarity = "one logit"

[checkpoints."syncnet_tiny.local"]
publisher = "local"
url = "http://127.0.0.1:{port}/net.pth"
{hash}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AVDETECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def avdetect(*arguments, cwd=None):
    command = [sys.executable, "-m", "avdetect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder on a local server, and `use` that makes a catalogue for its net.pth."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def use(licence="MIT", restricted="false", with_hash=True):
        content = (folder / "net.pth").read_bytes()
        hash = f'sha256 = "{hashlib.sha256(content).hexdigest()}"' if with_hash else ""
        text = CATALOG.format(licence=licence, restricted=restricted, port=server.server_port, hash=hash)
        (tmp_path / "catalog.toml").write_text(text)
        monkeypatch.setattr(catalog, "CATALOG_FILE", tmp_path / "catalog.toml")
        return folder / "net.pth"

    yield folder, use
    server.shutdown()
    thread.join()
    server.server_close()


def test_list_names_licence_and_state(cache):
    done = avdetect("weights", "list")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "ENCODER", "LICENCE", "SIZE", "CACHED"]
    assert len(lines) == 1 + len(list_published())
    meso = next(line for line in lines if line.startswith("meso4.df "))
    assert meso.split() == ["meso4.df", "meso4", "Apache-2.0", "0.2", "MB", "no"]
    assert any(line.startswith("ucf.deepfakebench") and line.endswith("no (import only)") for line in lines)
    objects = [json.loads(line) for line in avdetect("weights", "list", "--json").stdout.splitlines()]
    assert [o["name"] for o in objects] == [line.split()[0] for line in lines[1:]]
    assert objects[0]["file"].startswith(str(cache)) and objects[0]["cached"] is False


def test_show_prints_the_card():
    done = avdetect("weights", "show", "xception.ispl_dfdc")
    text = " ".join(done.stdout.split())
    for words in (
        "licence none stated; code GPL-3.0",
        "AUC 0.8784",
        "polarity one logit",
        "sha256 e826cdb64d73ef",
    ):
        assert words in text
    assert json.loads(avdetect("weights", "show", "syncnet.v2", "--json").stdout)["size"] == 54573114


@pytest.mark.parametrize(
    "command", [("show", "mes04.df"), ("pull", "mes04.df"), ("import", "x", "--as", "mes04.df")]
)
def test_unknown_names_are_corrected(command):
    done = avdetect("weights", *command)
    assert done.returncode == 1 and "did you mean meso4.df" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


@pytest.mark.parametrize(
    "command", [("show",), ("pull",), ("import", "x"), ("push", "x"), ("list", "--frob")]
)
def test_usage_errors(command):
    assert avdetect("weights", *command).returncode == 2


def test_pull_needs_a_hash():
    done = avdetect("weights", "pull", "ucf.deepfakebench")
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert "NonCommercial" in done.stderr and "import FILE --as ucf.deepfakebench" in done.stderr


def test_pull_shows_restricting_terms_before_the_download(served, cache, monkeypatch, capsys):
    folder, use = served
    (folder / "net.pth").write_bytes(b"weights")
    use("CC-BY-NC-4.0", "true")
    order = []
    real = store.pull
    monkeypatch.setattr(store, "pull", lambda *args: order.append(capsys.readouterr().err) or real(*args))
    path = commands.pull("syncnet_tiny.local")
    assert path.read_bytes() == b"weights" and path.parent == cache
    assert "Licence of syncnet_tiny.local: CC-BY-NC-4.0." in order[0] and "Not for sale." in order[0]


def test_pull_of_free_weights_is_quiet_and_prints_the_path(served, cache):
    folder, use = served
    (folder / "net.pth").write_bytes(b"weights")
    use()
    done = CliRunner().invoke(app, ["weights", "pull", "syncnet_tiny.local"])
    assert done.exit_code == 0 and done.stderr == ""
    assert done.stdout.strip() == str(cache / "syncnet_tiny.local.pth")
    done = CliRunner().invoke(app, ["weights", "list"])
    assert done.stdout.splitlines()[1].endswith("yes")


def test_a_terminal_sees_a_progress_bar(served, cache, tmp_path):
    folder, use = served
    (folder / "net.pth").write_bytes(bytes(3_000_000))
    use()
    code = (
        "import pathlib; from avdetect.weights import catalog, commands\n"
        f"catalog.CATALOG_FILE = pathlib.Path({str(tmp_path / 'catalog.toml')!r})\n"
        "print(commands.pull('syncnet_tiny.local'))"
    )
    terminal, end = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=end, text=True)
    os.close(end)
    shown = os.read(terminal, 1 << 20).decode()
    os.close(terminal)
    assert done.returncode == 0 and done.stdout.strip() == str(cache / "syncnet_tiny.local.pth")
    assert "syncnet_tiny.local.pth" in shown and "3.0/3.0 MB" in shown


def test_import_loads_before_it_keeps(served, cache):
    folder, use = served
    state = create_encoder("syncnet_tiny").state_dict()  # the published keys are this network's own
    torch.save({"net": state}, folder / "net.pth")
    command = ["weights", "import", str(use(with_hash=False)), "--as", "syncnet_tiny.local"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.exception
    assert "no SHA-256 was published; this file's, " in done.stdout and "is recorded" in done.stdout

    encoder = create_encoder("syncnet_tiny", weights="syncnet_tiny.local")
    assert not encoder.training
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())

    torch.save(dict(list(state.items())[1:]), folder / "net.pth")
    before = {path: path.read_bytes() for path in cache.iterdir()}
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and isinstance(done.exception, WeightsError)
    assert "do not fit syncnet_tiny: missing" in str(done.exception)
    assert {path: path.read_bytes() for path in cache.iterdir()} == before


def test_create_encoder_takes_published_weights_from_the_cache_only():
    with pytest.raises(
        WeightsError, match="not in the cache; run `avdetect weights pull xception.ispl_dfdc`"
    ):
        create_encoder("xception", weights="xception.ispl_dfdc")
    with pytest.raises(WeightsError, match="xception.ispl_dfdc holds weights of xception, not of mel_cnn"):
        create_encoder("mel_cnn", weights="xception.ispl_dfdc")
    with pytest.raises(
        WeightsError, match="no published checkpoint 'xception.ispl_dfcd'.*did you mean xception"
    ):
        create_encoder("xception", weights="xception.ispl_dfcd")


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the reference files are not here")
@pytest.mark.parametrize(
    "file, name",
    [
        ("Meso4_DF.h5", "meso4.df"),
        ("MesoInception_F2F.h5", "mesoinception4.f2f"),
        ("AASIST.pth", "aasist.la2019"),
        ("AASIST-L.pth", "aasist_l.la2019"),
    ],
)
def test_published_files_are_imported_and_used(file, name, cache):
    done = CliRunner().invoke(app, ["weights", "import", str(SHARED / "weights" / file), "--as", name])
    assert done.exit_code == 0, done.exception
    assert done.stdout.split(" (")[0].startswith(str(cache / name)) and "SHA-256 as published" in done.stdout
    encoder = create_encoder(name.partition(".")[0], weights=name)
    with torch.inference_mode():
        assert torch.isfinite(encoder(*encoder.example_inputs(1))).all() and not encoder.training

    done = CliRunner().invoke(
        app, ["weights", "import", str(SHARED / "weights" / file), "--as", "ucf.deepfakebench"]
    )
    assert done.exit_code == 1 and isinstance(done.exception, WeightsError)


def test_card_of_an_encoder():
    def shown(*arguments):
        return CliRunner().invoke(app, ["encoders", *arguments]).stdout

    text = " ".join(shown("mel_cnn_tiny").split())
    assert "changes fewer channels" in text and "embedding dim 128" in text
    card = json.loads(shown("mel_cnn_tiny", "--json"))
    assert card["name"] == "mel_cnn_tiny" and card["input"] == [["N", 64000]]
    names = [json.loads(line)["name"] for line in shown("--json").splitlines()]
    assert "mel_cnn" in names and "lipsync" in names
    done = avdetect("encoders", "mel_cn")
    assert done.returncode == 2 and "did you mean mel_cnn" in done.stderr and done.stdout == ""


def test_listing_and_showing_do_not_import_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from avdetect.cli import app; run = CliRunner().invoke\n"
        "for command in (['weights', 'list'], ['weights', 'show', 'meso4.df'], ['encoders']):\n"
        "    assert run(app, command).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_weights_are_mixed(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("first", "second", "out", "other")]
    for seed, file in enumerate(files[:2]):
        torch.manual_seed(seed)
        save_encoder(create_encoder("mel_cnn_tiny"), file)
    save_encoder(create_encoder("lipsync_small"), files[3])
    first, second, out, other = map(str, files)
    done = CliRunner().invoke(app, ["weights", "mix", first, second, "--share", "0.25", "--out", out])
    assert done.exit_code == 0 and "0.75 of" in done.output
    a, b, mixed = (load_encoder(file).state_dict() for file in files[:3])
    for name, value in mixed.items():
        expected = 0.75 * a[name] + 0.25 * b[name] if value.dtype.is_floating_point else b[name]
        torch.testing.assert_close(value, expected)
    for given, share, sentence in (
        (other, "0.5", "they differ in name"),
        (second, "1.5", "must be in \\[0, 1\\]"),
    ):
        with pytest.raises(AvdetectError, match=sentence):
            CliRunner().invoke(
                app, ["weights", "mix", first, given, "--share", share, "--out", out], catch_exceptions=False
            )

"""`avdetect data demo --layout`, `data check`, `data audit` as they are called."""

import json
import wave

import numpy as np
import pytest
from typer.testing import CliRunner

from avdetect.cli import app
from avdetect.data.demo.layouts import list_layouts
from avdetect.errors import AvdetectError


def write_set(folder):
    """Twelve short recordings; the fakes last twice as long."""
    rng = np.random.default_rng(0)
    rows = ["path,label,split,source"]
    for number in range(12):
        fake = number % 2
        name = f"{number}.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            count = (1000 + 1000 * fake) + int(rng.integers(100))
            file.writeframes((rng.standard_normal(count) * 3000).astype("<i2").tobytes())
        rows.append(f"{name},{fake},{'train' if number < 8 else 'test'},s{number // 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    write_set(tmp_path / "set")
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch):
    """`avdetect data …` in this process and in the folder; errors come as the sentence that a user sees."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        done = CliRunner().invoke(app, ["data", *arguments])
        if isinstance(done.exception, AvdetectError):
            return 1, done.stdout, str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def test_check_says_what_is_wrong_and_fails(folder, run_python):
    done = run_python("-m", "avdetect", "data", "check", "set/manifest.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "manifest train: 4 genuine, 4 fake" in done.stdout and "12 rows, 0 errors, 0 warnings" in done.stderr
    )
    (folder / "set/3.wav").unlink()
    (folder / "set/4.wav").write_bytes(b"RIFF")
    done = run_python("-m", "avdetect", "data", "check", "set/manifest.csv", "--json", cwd=folder)
    assert done.returncode == 1
    findings = {f["check"]: f for f in map(json.loads, done.stdout.splitlines())}
    assert findings["missing"]["examples"] == ["manifest/3.wav"]
    assert findings["unreadable"]["severity"] == "error" and "4.wav" in findings["unreadable"]["examples"][0]


def test_check_takes_the_folder_of_the_files(folder, command):
    (folder / "set/manifest.csv").rename(folder / "list.csv")
    assert command("check", "list.csv", "--workers", "0")[0] == 1
    code, out, err = command("check", "list.csv", "--root", "set", "--workers", "0")
    assert code == 0, out + err
    code, _, err = command("check", "list.csv", "--root", "sett")
    assert code == 1 and err.startswith("sett is no folder")
    for name in (["check", "list.csv"], ["audit", "list.csv"], ["prepare", "list.csv", "out"]):
        assert command(*name, "--workers", "-1")[0] == 2  # usage


def test_audit_is_stored_printed_and_continued(folder, command):
    code, out, err = command("audit", "set/manifest.csv", "--workers", "0")
    assert code == 0 and "duration" in out
    assert "duration alone separates the classes (AUC 1.00" in " ".join(err.split())
    stored = json.loads((folder / "set/audit.json").read_text())
    assert stored["shortcuts"]["duration"]["auc"]["value"] == 1
    assert len((folder / "set/audit.facts.jsonl").read_text().splitlines()) == 12
    options = ("--json", "--where", "split == 'train'", "--out", "train.json", "--workers", "0")
    code, out, err = command("audit", "set/manifest.csv", *options)
    assert code == 0 and json.loads(out) == json.loads((folder / "train.json").read_text())
    assert json.loads(out)["n_audited"] == 8
    (folder / "set/manifest.csv").rename(folder / "set/other.csv")
    code, _, err = command("audit", "set/other.csv")
    assert code == 1 and "--out" in err


def test_demo_layouts(folder, command):
    code, out, _ = command("demo", "--layout", "list")
    names = out.split()
    assert code == 0 and names == sorted(names) == list_layouts() and "asvspoof2019_la" in names
    code, out, _ = command("demo", "asv", "--layout", "asvspoof2019_la")
    assert code == 0 and out.strip() == str(folder / "asv")
    code, _, err = command("index", "auto", "asv", "--out", "asv.csv")
    assert code == 0 and "ASVspoof2019 LA" in (folder / "asv.csv").read_text()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("out", "--layout", "celebdf"), "did you mean celeb_df"),
        (("out", "--layout", "lavdf", "--clips", "30"), "leave out --clips"),
        ((), "name the folder"),
        (("set", "--layout", "lavdf"), "is not empty"),
    ],
)
def test_demo_says_what_it_cannot_do(arguments, words, folder, command):
    code, _, err = command("demo", *arguments)
    assert code == 1 and words in err
    assert not (folder / "out").exists()

"""The page and the folder of an evaluation, from score files alone."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from avdetect.errors import ConfigError
from avdetect.scan.evaluate import evaluate_scorefile
from avdetect.scan.evaluation_page import _picture


@pytest.fixture
def scored(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A score file and the manifest of its 24 clips; no pictures are drawn."""
    monkeypatch.setattr("avdetect.scan.evaluate.draw_all", lambda *_: {})
    rows = [
        {"path": f"{k:02d}.wav", "label": k % 2, "source": f"s{k}", "quality": "high" if k < 12 else "low"}
        for k in range(24)
    ]
    pd.DataFrame(rows).assign(split="test", dataset="Voices").to_csv(tmp_path / "m.csv", index=False)
    (tmp_path / "s.txt").write_text("".join(f"{row['path']};{0.1 + 0.8 * row['label']}\n" for row in rows))
    return tmp_path / "s.txt", tmp_path / "m.csv"


def test_the_folder_of_a_recipes_run_is_not_overwritten(scored, tmp_path):
    scores, manifest = scored
    text = '{"schema": "avdetect.metrics/1"}'
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match=r"metrics\.json is of something else.*name another --out"):
        evaluate_scorefile(scores, [manifest], tmp_path, resamples=20)
    assert (tmp_path / "metrics.json").read_text() == text
    for _ in range(2):  # its own it does
        evaluate_scorefile(scores, [manifest], tmp_path / "out", resamples=20)


def test_the_page_tells_fairness_and_columns_without_a_value(scored, tmp_path):
    scores, manifest = scored
    by = ["quality", "gender"]
    result = evaluate_scorefile(scores, [manifest], tmp_path / "out", by=by, resamples=20)["sets"]["Voices"]
    assert set(result["groups"]) == set(result["fairness"]) == {"quality"}
    assert result["fairness"]["quality"]["aiface"]["F_FPR"] == 0
    assert "no clip has a value of gender: nothing is said by it" in result["warnings"]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Fairness by quality" in page and "F_FPR 0.0 %" in page and "--by quality,gender" in page


def test_names_in_a_manifest_cannot_break_the_page(scored, tmp_path):
    scores, manifest = scored
    table = pd.read_csv(manifest).assign(dataset="<img src=x onerror=alert(1)>", method="<script>x</script>")
    table.to_csv(manifest, index=False)
    evaluate_scorefile(scores, [manifest], tmp_path / "out", by=["method"], resamples=20)
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page
    assert "<script" not in page and "&lt;script" in page


@pytest.mark.parametrize(("size", "wide"), [((500, 100), True), ((100, 100), False)])
def test_wide_pictures_get_the_whole_width(tmp_path, size, wide):
    Image.new("RGB", size).save(tmp_path / "roc.png")
    assert _picture(tmp_path / "roc.png")[1:] == ("ROC curves", wide)

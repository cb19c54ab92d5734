"""What a recipe says of its data."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from avdetect.cli import app
from avdetect.errors import DataError
from avdetect.recipes.sources import audit_flags


def test_a_shortcut_that_the_audit_flagged_is_told_in_every_run_on_the_data(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(24):
        label, path = index % 2, f"{index}.wav"
        seconds = 0.5 + label + 0.1 * rng.random()  # fakes are longer
        soundfile.write(tmp_path / path, 0.1 * rng.standard_normal(round(16000 * seconds)), 16000)
        rows.append({"path": path, "kind": "audio", "label": label, "source": path, "dataset": "sounds"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    assert audit_flags(str(tmp_path / "manifest.csv")) == []
    done = CliRunner().invoke(app, ["data", "audit", str(tmp_path / "manifest.csv"), "--workers", "0"])
    assert done.exit_code == 0, done.output
    for root in (str(tmp_path / "manifest.csv"), str(tmp_path)):
        assert any(
            "duration alone separates the classes (AUC 1.00" in flag for flag in audit_flags([root, "demo"])
        )
    assert audit_flags(None) == audit_flags("demo:celeb_df") == []
    (tmp_path / "audit.json").write_text(json.dumps({"nothing": 1}))
    with pytest.raises(DataError):
        audit_flags(str(tmp_path))

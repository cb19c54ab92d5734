import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avdetect.encoders import list_encoders
from avdetect.errors import WeightsError
from avdetect.weights import find_published, list_published

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
ENTRIES = {entry.name: entry for entry in list_published()}
FILES = {
    "AASIST.pth": "aasist.la2019",
    "AASIST-L.pth": "aasist_l.la2019",
    "Meso4_DF.h5": "meso4.df",
    "Meso4_F2F.h5": "meso4.f2f",
    "MesoInception_DF.h5": "mesoinception4.df",
    "MesoInception_F2F.h5": "mesoinception4.f2f",
}


def test_every_publisher_is_there():
    families = {name.partition(".")[2].partition("_")[0] for name in ENTRIES}
    assert families == {"ispl", "df", "f2f", "la2019", "v2", "deepfakebench", "imagenet"}
    assert sum(".ispl_" in name for name in ENTRIES) == 10
    assert len({entry.url for entry in ENTRIES.values()}) == len(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_complete(name):
    entry = ENTRIES[name]
    assert entry.encoder in list_encoders() and name.startswith(f"{entry.encoder}.")
    assert entry.url.startswith(("https://", "http://www.robots.ox.ac.uk/"))
    assert entry.filename.endswith((".pth", ".h5", ".model"))
    for text in (
        entry.publisher,
        entry.licence,
        entry.terms,
        entry.training_data,
        entry.score,
        entry.polarity,
    ):
        assert text
    assert bool(entry.score_source) == ("not published" not in entry.score)
    if entry.sha256 is None:
        assert entry.sha256_source == "none is known"
    else:
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)


def test_restricting_licences_are_marked():
    for entry in ENTRIES.values():
        assert entry.restricted == (entry.licence not in ("MIT", "MIT (code)", "Apache-2.0")), entry.name


def test_the_hash_of_ispl_is_the_one_in_its_file_name():
    for name, entry in ENTRIES.items():
        if ".ispl_" in name:
            assert entry.url.endswith(f"_bestval-{entry.sha256}.pth")
            network, data = re.search(r"/(\w+?)_(DFDC|FFPP)_bestval", entry.url).groups()
            ours = (
                re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", network)
                .lower()
                .replace("efficient_net", "efficientnet_")
            )
            ours = ours.replace("__", "_").replace("auto_att_b4", "autoatt_b4").replace("b4st", "b4_st")
            assert name == f"{ours}.ispl_{data.lower()}", network


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the reference files are not here")
@pytest.mark.parametrize("file, name", FILES.items())
def test_hash_and_size_of_the_published_files(file, name):
    content = (SHARED / "weights" / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == ENTRIES[name].sha256
    assert len(content) == ENTRIES[name].size
    assert ENTRIES[name].url.endswith(f"/{file}")


def test_unknown_names_are_corrected():
    with pytest.raises(WeightsError, match="no published checkpoint 'mes04.df'.*did you mean meso4.df or"):
        find_published("mes04.df")
    with pytest.raises(WeightsError, match="did you mean .*syncnet.v2"):
        find_published("syncnet")
    with pytest.raises(WeightsError, match="did you mean .*mesoinception4.f2f"):
        find_published("f2f")
    with pytest.raises(WeightsError, match="`avdetect weights list` shows the names"):
        find_published("zzz")


def test_the_catalogue_does_not_import_torch():
    code = "import sys, avdetect.weights.commands as c; c.table(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

import shutil
import tarfile

import pytest
from PIL import Image

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import read_format
from avdetect.data.prepare import prepare
from avdetect.errors import DataError
from avdetect.media import ClipSettings, read_clip

FACES = ClipSettings(pictures="face", crop_size=32)


class Plain:
    """Instead of drawn faces: plain pictures, each of another colour."""

    def __init__(self):
        self.made = 0

    def restart(self):
        self.made = 0

    def images(self, folder, subject, fake, count, size=224, start=0):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            self.made += 1
            colour = (self.made % 256, self.made // 256, 200 * fake)
            Image.new("RGB", (32, 32), colour).save(folder / f"{start + number:03d}.png")
        return folder


@pytest.fixture
def mini(tmp_path):
    return make_layout("wilddeepfake", tmp_path / "wild", media=Plain())


def unpack(root):
    for archive in root.rglob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(archive.parent, filter="data")


def test_miniature_has_packed_and_unpacked_sequences(mini):
    manifest = read_format("auto", mini)  # checked for leaks
    table = manifest.table
    assert len(table) == 24 and not len(manifest.missing_files()) and table["kind"].eq("video").all()
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("train", 0): 6, ("train", 1): 6, ("val", 0): 2, ("val", 1): 2, ("test", 0): 4, ("test", 1): 4,
    }  # fmt: skip
    rows = table.set_index("path")
    packed = rows.loc["fake_train/2.tar.gz!/2/fake/12"]
    assert packed[["label", "visual_label", "source"]].tolist() == [1, 1, "wilddeepfake_fake_train_2"]
    assert rows.loc["real_test/0/real/3", ["label", "split", "source"]].tolist() == [
        0, "test", "wilddeepfake_real_test_0",
    ]  # fmt: skip
    assert any("24 sequences, where the publisher has 7314" in note for note in manifest.notes)


def test_packed_and_unpacked_are_the_same_clips(mini):
    packed = read_format("auto", mini).table
    unpack(mini)
    both = read_format("auto", mini).table  # an archive beside its own folder is not counted twice
    for archive in mini.rglob("*.tar.gz"):
        archive.unlink()
    alone = read_format("auto", mini).table
    plain = packed["path"].str.replace(r"/\d+\.tar\.gz!", "", regex=True)
    assert sorted(plain) == sorted(alone["path"]) and both.equals(alone)
    assert sorted(packed["source"]) == sorted(alone["source"])


def test_names_with_spaces_and_the_publishers_own_folder(mini, tmp_path):
    for part in ("real_train", "real_test", "fake_train", "fake_test"):
        (mini / part).rename(mini / part.replace("_", " "))
    assert len(read_format("auto", mini)) == 24
    (tmp_path / "disk").mkdir()
    mini.rename(tmp_path / "disk" / "deepfake_in_the_wild")
    table = read_format("auto", tmp_path / "disk").table
    assert len(table) == 24 and table["path"].str.startswith("deepfake_in_the_wild/").all()


def test_sequences_are_read_as_videos_in_the_order_of_their_frame_numbers(mini):
    for path in ("fake_train/2.tar.gz!/2/fake/12", "real_test/0/real/3"):
        clip = read_clip(mini / path, FACES)
        assert clip.kind == "video" and len(clip.tracks) == 1
        # Frames 86 (or 96), 96, 106 …: in alphabetical order 106 would come before 86.
        assert clip.tracks[0].crop_times.tolist() == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
        made = clip.tracks[0].crops[:, 0, 0, 0].tolist()  # its red tells when a picture was made
        assert made == list(range(made[0], made[0] + 5))


def test_prepared_like_any_video(mini, tmp_path):
    manifest = read_format("auto", mini)
    prepared = prepare(manifest, tmp_path / "prepared", FACES, workers=0, progress=False)
    assert not len(prepared.failures) and prepared.table["crops"].eq(5).all()
    assert len(prepared.rows("visual", "val")) == 4 and not prepared.table["has_audio"].any()
    shutil.rmtree(mini / "fake_train")
    again = prepare(manifest, tmp_path / "again", FACES, workers=0, progress=False)
    assert again.failures["path"].str.startswith("fake_train/").all() and len(again.failures) == 8
    assert set(again.failures["status"]) == {"missing"}


def test_errors(tmp_path, mini):
    (tmp_path / "x" / "real_train").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no sequences of WildDeepfake"):
        read_format("wilddeepfake", tmp_path / "x")
    archive = mini / "real_train" / "1.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(DataError, match="1.tar.gz is no readable archive"):
        read_format("wilddeepfake", mini)
    archive.unlink()
    (mini / "real_test/0/real").rename(mini / "real_test/0/fake")
    with pytest.raises(DataError, match="a fake sequence in the part real_test"):
        read_format("wilddeepfake", mini)

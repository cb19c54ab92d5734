import csv

import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

HEADER = "Image Path,Predicted Gender,Predicted Age,Skin Tone,Target,Skin Tone Group,Intersection"
PUBLISHED = "AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg,1,3,6,1,1,4"


def write(root, **files):
    for name, lines in files.items():
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")


def rows(root, name="aiface"):
    manifest = read_format(name, root)
    return manifest, manifest.table.set_index("path")


def test_published_row_keeps_the_publishers_codes(tmp_path):
    write(tmp_path, test=[HEADER, PUBLISHED, "AI_Face_imagesV2/Real/FFHQ/1.png,0,1,2,0,0,0"])
    assert detect_format(tmp_path) == "aiface"
    table = rows(tmp_path)[1]
    fake = table.loc["AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg"]
    assert fake[["gender", "age", "skin_tone", "skin_tone_group", "intersection"]].tolist() == [
        "1",
        "3",
        "6",
        "1",
        "4",
    ]
    assert fake[["label", "visual_label", "split", "method", "kind"]].tolist() == [
        1,
        1,
        "test",
        "DCFACe",
        "image",
    ]
    assert fake["source"] == "AI_Face_imagesV2/DMs/DCFACe/7856"  # one invented person
    real = table.loc["AI_Face_imagesV2/Real/FFHQ/1.png"]
    assert real["label"] == 0 and real["collection"] == "FFHQ" and real["source"] == real.name
    assert table["method"].isna().tolist() == [False, True] and table["subject"].isna().all()


def test_target_1_is_fake_in_every_schema(tmp_path):
    older = (
        "Image Path,Uncertainty Score Gender,Uncertainty Score Age,Uncertainty Score Race,Ground Truth Gender,"
        "Ground Truth Age,Ground Truth Race,Intersection,Target"
    )
    kin = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label,spe_label"
    write(
        tmp_path,
        train=[older, "AttGAN/a.png,0.1,0.2,0.3,1,2,0,0,1", "Real/FFHQ/b.png,0.1,0.2,0.3,0,0,1,5,0"],
        fakeval=[kin, "crops/c.png,1,1,-1,1,-1,1,4"],
        realval=[kin.removesuffix(",spe_label"), "crops/d.png,0,-1,-1,-1,-1,7"],
    )
    table = rows(tmp_path)[1]
    assert table["label"].to_dict() == {
        "AttGAN/a.png": 1,
        "Real/FFHQ/b.png": 0,
        "crops/c.png": 1,
        "crops/d.png": 0,
    }
    assert table["split"].to_dict() == {
        "AttGAN/a.png": "train", "Real/FFHQ/b.png": "train", "crops/c.png": "val", "crops/d.png": "val",
    }  # fmt: skip
    assert table["race"].to_dict() == {
        "AttGAN/a.png": "0", "Real/FFHQ/b.png": "1", "crops/c.png": "white", "crops/d.png": "others",
    }  # fmt: skip
    assert table["gender"].to_dict() == {
        "AttGAN/a.png": "1", "Real/FFHQ/b.png": "0", "crops/c.png": "1", "crops/d.png": "-1",
    }  # fmt: skip
    assert table["age"].to_dict()["AttGAN/a.png"] == "2"
    assert table.loc["AttGAN/a.png", "uncertainty_score_race"] == "0.3"
    assert (
        table.loc["AttGAN/a.png", "method"] == "AttGAN"
        and table.loc["crops/c.png", "method"] == "NeuralTextures"
    )
    assert table.loc["crops/d.png", "source"] == "crops/d.png"


def test_slash_before_relative_paths_and_absolute_paths(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "crops"
    for folder in (root / "AttGAN", elsewhere):
        folder.mkdir(parents=True)
    (root / "AttGAN" / "1.png").touch()
    (elsewhere / "2.png").touch()
    write(root, train=[HEADER, "/AttGAN/1.png,1,3,6,1,1,4"])
    manifest = read_format("aiface", root)
    assert manifest.table["path"].tolist() == ["AttGAN/1.png"] and len(manifest.missing_files()) == 0
    write(root, train=[HEADER, f"{elsewhere}/2.png,1,3,6,0,1,4"])
    manifest = read_format("aiface", root)
    assert len(manifest.missing_files()) == 0 and manifest.table["root"].tolist() == ["/"]


def test_pair_files_add_a_column_to_the_rows_of_train(tmp_path):
    real = "Real/1.png,0,1,2,0,0,0"
    write(
        tmp_path,
        train=[HEADER, PUBLISHED, HEADER, real],  # joined files repeat the header
        train_fake_spe=[HEADER + ",Specific", PUBLISHED + ",3"],
        train_real=[HEADER, real],
        val=[HEADER, "GANs/StyleGAN2/1.jpg,0,1,2,1,0,0"],
    )
    manifest, table = rows(tmp_path)
    assert len(manifest) == 3 and table.loc["AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg", "specific"] == "3"
    assert (
        table.loc["Real/1.png", "split"] == "train"
        and table.loc["GANs/StyleGAN2/1.jpg", "method"] == "StyleGAN2"
    )


def test_validation_is_carved_where_there_is_none(tmp_path):
    lines = [f"GANs/StyleGAN2/{k}.jpg,0,1,2,{k % 2},0,0" for k in range(40)]
    write(tmp_path, train=[HEADER, *lines], test=[HEADER, PUBLISHED])
    manifest, table = rows(tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 34, "val": 6, "test": 1}
    assert any("15% of train is carved by source" in note for note in manifest.notes)
    assert table.groupby("split")["label"].nunique()["val"] == 2


def test_a_group_on_both_sides_of_the_official_split_is_kept_and_said(tmp_path):
    other = PUBLISHED.replace("6.jpg", "7.jpg")
    write(tmp_path, train=[HEADER, PUBLISHED], val=[HEADER, "Real/1.png,0,1,2,0,0,0"], test=[HEADER, other])
    manifest, table = rows(tmp_path)  # checked
    folder = "AI_Face_imagesV2/DMs/DCFACe/7856"
    assert table.loc[f"{folder}/6.jpg", "source"] == f"{folder}@train"
    assert table["shared_between_splits"].value_counts().to_dict() == {folder: 2}
    assert any("1 sources on more than one side" in note for note in manifest.notes)


def test_wrong_labels_contradictions_and_repeats_are_errors(tmp_path):
    write(
        tmp_path, train=[HEADER, PUBLISHED, PUBLISHED.replace(",1,1,4", ",2,1,4").replace("6.jpg", "7.jpg")]
    )
    with pytest.raises(DataError, match=r"train.csv line 3: expected a path and the label 0 \(real\) or 1"):
        read_format("aiface", tmp_path)
    write(tmp_path, train=[HEADER, PUBLISHED], test=[HEADER, PUBLISHED.replace("6,1,1,4", "6,0,1,4")])
    with pytest.raises(DataError, match="has the label 0 in one CSV file and 1 in another"):
        read_format("aiface", tmp_path)
    write(tmp_path, train=[HEADER, PUBLISHED], test=[HEADER, PUBLISHED])
    with pytest.raises(DataError, match="listed more than once"):
        read_format("aiface", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no CSV file of AI-Face"):
        read_format("aiface", tmp_path / "empty")
    (tmp_path / "train.csv").write_text(HEADER + '\n"torn,1,3\n')
    with pytest.raises(DataError, match="train.csv cannot be read as CSV"):
        read_format("aiface", tmp_path)


def test_other_csv_files_are_not_claimed(tmp_path):
    with open(tmp_path / "labels.csv", "w", newline="") as opened:
        csv.writer(opened).writerows([("path", "label"), ("a.png", 1)])
    with pytest.raises(DataError, match="none of the layouts"):
        detect_format(tmp_path)

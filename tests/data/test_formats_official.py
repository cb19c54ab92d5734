import pandas as pd

from avdetect.data.formats.official import carve_validation, confine_groups
from avdetect.data.manifest import Manifest


def clips(rows):
    """Rows (split, subject, source, label) as a table."""
    table = pd.DataFrame(rows, columns=["split", "subject", "source", "label"])
    path = [f"{row}.mp4" for row in range(len(table))]
    return table.assign(path=path, dataset="d", visual_label=table["label"], audio_label=pd.NA)


def test_validation_is_carved_whole_sources_at_a_time():
    table = clips([("train", None, f"s{k // 2}", k % 2) for k in range(40)] + [("test", None, "t", 1)])
    split, note = carve_validation(table)
    assert split.value_counts().to_dict() == {"train": 34, "val": 6, "test": 1}
    assert split.groupby(table["source"]).nunique().max() == 1
    assert note == "the publisher has no val split: 15% of train is carved by source (seed 0)"
    assert carve_validation(table, seed=1)[0].tolist() != split.tolist()


def test_a_publishers_validation_is_left_alone():
    table = clips([("train", "a", "a", 0), ("train", "b", "b", 1), ("val", "c", "c", 1)])
    split, note = carve_validation(table)
    assert split.tolist() == ["train", "train", "val"] and note == ""
    assert carve_validation(table.assign(split="test"))[1] == ""


def test_entangled_people_are_chosen_and_what_joins_them_is_left_out():
    people = range(8)
    rows = [("train", f"p{k}", f"p{k}", 0) for k in people]
    rows += [("train", f"p{a}+p{b}", f"p{a}", 1) for a in people for b in people if a != b]
    table = clips(rows)
    split, note = carve_validation(table)
    assert (
        "is carved by people (seed 0)" in note and f"; {int(split.isna().sum())} clips that join both" in note
    )
    assert table["label"].groupby(split).nunique().to_dict() == {"train": 2, "val": 2}
    Manifest(table.assign(split=split)).check()  # nobody on two sides


def test_where_nothing_can_be_carved_it_is_said():
    table = clips([("train", "a+b", "a", 1), ("train", "a", "a", 0), ("train", "b", "b", 0)])
    split, note = carve_validation(table)
    assert split.tolist() == ["train"] * 3 and "no part with both classes can be carved" in note


def test_groups_of_several_sides_are_renamed_and_named():
    table = clips([
        ("train", "a+b", "a", 1), ("train", "c+b", "s", 1), ("test", "b+a", "b", 1), ("test", "d", "s", 0),
        (pd.NA, "a+d", "x", 1),
    ])  # fmt: skip
    confined, notes = confine_groups(table)
    assert confined["subject"].tolist() == ["a@train+b@train", "c+b@train", "b@test+a@test", "d", "a+d"]
    assert confined["source"].tolist() == ["a", "s@train", "b", "s@test", "x"]
    assert confined["shared_between_splits"].fillna("-").tolist() == ["a+b", "s+b", "b+a", "s", "-"]
    assert [note.split(" on ")[0] for note in notes] == [
        "the publisher's split has 1 sources", "the publisher's split has 2 subjects",
    ]  # fmt: skip
    Manifest(confined).check()


def test_a_clean_split_is_not_touched():
    table = clips([("train", "a", "a", 1), ("test", None, "b", 0)])
    confined, notes = confine_groups(table)
    pd.testing.assert_frame_equal(confined, table)
    assert notes == []

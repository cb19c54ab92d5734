import pandas as pd

from avdetect.evaluation.guard import seen_in_training


def rows(*entries):
    table = pd.DataFrame(entries, columns=["dataset", "path", "source", "subject", "split"])
    return table.astype("string")


TRAINED = rows(
    ("D", "a.mp4", "s1", "anna+bert", "train"), ("D", "b.mp4", "s2", "carl", "val"),
    ("D", "c.mp4", "s3", "dora", "test"), ("D", "d.mp4", None, None, "train"),
)  # fmt: skip


def test_new_clips_of_new_people_raise_nothing():
    tested = rows(("D", "c.mp4", "s3", "dora", "test"), ("E", "a.mp4", "s1", "anna", "test"))
    assert seen_in_training(tested, TRAINED) == []


def test_clips_sources_and_subjects_are_told_apart():
    tested = rows(
        ("D", "a.mp4", "s9", "emil", "test"), ("D", "x.mp4", "s2", "emil", "test"),
        ("D", "y.mp4", "s8", "emil + bert", "test"), ("D", "z.mp4", None, None, "test"),
    )  # fmt: skip
    clips, sources, subjects = seen_in_training(tested, TRAINED)
    assert clips.startswith("1 of 4 clips are clips") and "D/a.mp4" in clips
    assert sources.startswith("1 of 4 clips are of sources") and "D: s2" in sources
    assert subjects.startswith("1 of 4 clips show subjects") and "D: bert" in subjects


def test_missing_names_are_nobody():
    assert seen_in_training(rows(("D", "z.mp4", None, None, "test")), TRAINED) == []

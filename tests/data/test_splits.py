import time

import numpy as np
import pandas as pd
import pytest

from avdetect.data.manifest import Manifest
from avdetect.data.splits import connected_groups, dfdc_split, published_dfdc_split, split_by_source
from avdetect.errors import ConfigError, DataError


def rows(count, **columns):
    frame = pd.DataFrame({"path": [f"{i:05d}.mp4" for i in range(count)]} | columns)
    return Manifest(frame, name="D").table


def test_published_split_of_every_part():
    splits = [published_dfdc_split(part) for part in range(50)]
    assert splits == ["train"] * 35 + ["val"] * 5 + ["test"] * 10
    with pytest.raises(DataError, match="part 50"):
        published_dfdc_split(50)


def test_connected_groups_go_through_sources_and_subjects():
    table = rows(
        7,
        source=["s1", "s1", "s2", None, "s3", None, "a"],
        subject=["a", "b", "b+c", "c", "d", None, None],  # the source "a" is not the subject "a"
    )
    groups = connected_groups(table)
    assert len(set(groups[:4])) == 1
    assert len(set(groups[[0, 4, 5, 6]])) == 4
    assert connected_groups(table.iloc[:0]).size == 0


def test_split_by_source_never_leaks_and_comes_near_its_fractions():
    rng = np.random.default_rng(0)
    source = [f"s{i}" for i in rng.integers(0, 300, 2000)]
    subject = [f"p{int(s[1:]) % 150}" for s in source]
    table = rows(2000, source=source, subject=subject, label=(rng.random(2000) < 0.2).astype(int))
    table["split"] = split_by_source(table, seed=3)
    Manifest(table).check()
    for label in (0, 1):
        share = table[table["label"] == label]["split"].value_counts(normalize=True)
        assert share["train"] == pytest.approx(0.7, abs=0.02)
        assert share["val"] == pytest.approx(0.15, abs=0.02)
        assert share["test"] == pytest.approx(0.15, abs=0.02)


def test_split_by_source_follows_seed_and_keys_not_the_order_of_rows():
    table = rows(200, source=[f"s{i // 4}" for i in range(200)], label=[i % 2 for i in range(200)])
    first = split_by_source(table, seed=0)
    shuffled = table.sample(frac=1, random_state=1)
    assert split_by_source(shuffled, seed=0).sort_index().equals(first)
    assert not split_by_source(table, seed=1).equals(first)


def test_the_rare_class_reaches_every_split():
    table = rows(100, source=[f"s{i}" for i in range(100)], label=[1] * 5 + [0] * 95)
    split = split_by_source(table, {"train": 0.6, "val": 0.2, "test": 0.2})
    assert split[:5].value_counts().to_dict() == {"train": 3, "val": 1, "test": 1}


def test_bad_fractions_are_refused():
    for fractions in ({"train": 0.5, "test": 0.4}, {"train": 1.2, "test": -0.2}, {}):
        with pytest.raises(ConfigError, match="sum to 1"):
            split_by_source(rows(3), fractions)


def dfdc(parts):
    """Four clips a part, two genuine with a fake each."""
    count = 4 * len(parts)
    table = rows(count, label=[0, 1] * (count // 2), source=[f"s{i // 2}" for i in range(count)])
    return table, pd.Series(np.repeat(parts, 4), index=table.index)


def test_dfdc_published_split_where_the_parts_are_there():
    split, how = dfdc_split(*dfdc([0, 34, 35, 49]))
    assert split.tolist() == ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    assert how == "published split by part: train 0-34, val 35-39, test 40-49"


def test_dfdc_range_that_is_absent_is_taken_from_train():
    table, part = dfdc(list(range(10)) + [40])
    split, how = dfdc_split(table, part)
    assert set(split[part == 40]) == {"test"} and set(split[part < 35]) == {"train", "val"}
    assert "no part of val" in how
    Manifest(table.assign(split=split)).check()


def test_dfdc_without_two_ranges_is_split_by_source():
    table, part = dfdc(list(range(10)))
    split, how = dfdc_split(table, part)
    assert how.startswith("split by source") and set(split) == {"train", "val", "test"}
    Manifest(table.assign(split=split)).check()
    one_class, part = dfdc([0, 40])
    one_class["label"] = 1
    assert dfdc_split(one_class, part)[1].startswith("split by source")
    sample, _ = dfdc([0, 40])
    assert dfdc_split(sample, pd.Series(pd.NA, index=sample.index))[1].startswith("split by source")


def test_thirty_thousand_rows_take_seconds():
    table = rows(
        30_000, source=[f"s{i // 5}" for i in range(30_000)], label=[int(i % 5 > 0) for i in range(30_000)]
    )
    started = time.perf_counter()
    table["split"] = split_by_source(table)
    Manifest(table).check()
    assert time.perf_counter() - started < 20  # anything quadratic takes minutes

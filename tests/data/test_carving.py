import pandas as pd

from avdetect.data.carving import carve_by_people


def everybody_with_everybody(people=20):
    names = [f"p{i}" for i in range(people)]
    rows = [{"subject": a, "label": 0} for a in names]
    rows += [{"subject": f"{a}+{b}", "label": 1} for a in names for b in names if a != b]
    return finished(rows)


def finished(rows):
    table = pd.DataFrame(rows).assign(dataset="d", visual_label=pd.NA, audio_label=pd.NA)
    table["path"] = [f"{i}.mp4" for i in range(len(table))]
    return table.assign(source=table["path"])


def people_of(table, split, name):
    return set(table.loc[split.eq(name).fillna(False).astype(bool), "subject"].str.split("+").explode())


def test_entangled_people_are_chosen_and_nobody_is_on_both_sides():
    table = everybody_with_everybody()
    split = carve_by_people(table, seed=3)
    val, train = people_of(table, split, "val"), people_of(table, split, "train")
    assert len(val) == 3 and len(train) == 17 and not val & train
    kept = table["label"].groupby(split).agg(["size", "sum"])
    assert kept.loc["val"].tolist() == [3 + 3 * 2, 3 * 2]
    assert kept.loc["train"].tolist() == [17 + 17 * 16, 17 * 16]
    assert split.isna().sum() == 2 * 3 * 17  # what joins the two sides
    assert split.equals(carve_by_people(table, seed=3)) and not split.equals(carve_by_people(table, seed=4))


def test_people_who_are_swapped_with_each_other_stay_together_and_nothing_is_lost():
    pairs = [(2 * i, 2 * i + 1) for i in range(10)]
    rows = [{"subject": f"p{a}+p{b}", "label": 1} for a, b in pairs for _ in range(3)]
    rows += [{"subject": f"p{i}", "label": 0} for i in range(20)]
    split = carve_by_people(finished(rows), share=0.2)
    assert split.notna().all() and split.value_counts().to_dict() == {"train": 40, "val": 10}


def test_people_in_nobodys_fake_are_dealt_by_source():
    rows = [{"subject": f"y{i}", "label": 0} for i in range(100)]
    split = carve_by_people(finished(rows))
    assert split.value_counts().to_dict() == {"train": 85, "val": 15}


def test_too_few_people_stay_in_train():
    rows = [{"subject": "a+b", "label": 1}, {"subject": "a", "label": 0}, {"subject": "c+a", "label": 1}]
    assert carve_by_people(finished(rows)).eq("train").all()
    assert carve_by_people(finished(rows).iloc[:0]).empty

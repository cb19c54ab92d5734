import json
import math
import time

import numpy as np
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import localisation as loc


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def plain_ap(segments, periods, limit):
    """As the publishers describe it, segment by segment, one operating point per score."""
    marked, total = [], 0
    for clip in periods:
        rows = sorted(segments[clip] or [], key=lambda row: -row[2])
        taken = set()
        for period in periods[clip]:
            total += 1
            for place, row in enumerate(rows):
                if place not in taken and overlap(row, period) > limit:
                    taken.add(place)
                    break
        marked += [(row[2], place in taken) for place, row in enumerate(rows)]
    points = []
    for score in sorted({score for score, _ in marked}, reverse=True):
        above = [hit for s, hit in marked if s >= score]
        points.append((sum(above) / total, sum(above) / len(above)))
    area, recall = 0.0, 0.0
    for k, (r, _) in enumerate(points):
        area += (r - recall) * max(p for _, p in points[k:])
        recall = r
    return area


def plain_ar(segments, periods, count):
    recalls = []
    for limit in np.arange(0.5, 0.951, 0.05):
        hits = total = 0
        for clip in periods:
            best = sorted(segments[clip] or [], key=lambda row: -row[2])[:count]
            for period in periods[clip]:
                total += 1
                hits += any(overlap(row, period) > round(limit, 2) for row in best)
        recalls.append(hits / total)
    return sum(recalls) / len(recalls)


def scene(seed, ties=False):
    rng = np.random.default_rng(seed)
    segments, periods = {}, {}
    for k in range(30):
        ends = np.sort(rng.choice(np.arange(1, 100), 2 * rng.integers(0, 4), replace=False)) / 10
        periods[f"v{k}"] = ends.reshape(-1, 2).tolist()
        rows = []
        for start, end in periods[f"v{k}"]:
            for _ in range(rng.integers(0, 4)):
                a, b = start + rng.normal(0, 0.2), end + rng.normal(0, 0.2)
                rows.append([min(a, b - 0.01), b, rng.random()])
        rows += [
            [s := rng.random() * 8, s + 0.1 + rng.random(), rng.random()] for _ in range(rng.integers(0, 12))
        ]
        segments[f"v{k}"] = [[a, b, round(p, 1) if ties else p] for a, b, p in rows] or None
    return segments, periods


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_report_equals_the_plain_definition(seed, ties):
    segments, periods = scene(seed, ties)
    counts = (100, 50, 20, 10, 2, 1)
    report = loc.localisation_report(segments, periods, (0.1, 0.5, 0.75, 0.95), counts)
    for limit in (0.1, 0.5, 0.75, 0.95):
        assert report["ap"][f"{limit:g}"] == pytest.approx(plain_ap(segments, periods, limit), abs=1e-9)
    for count in counts:
        assert report["ar"][str(count)] == pytest.approx(plain_ar(segments, periods, count), abs=1e-9)
    assert report["n_clips"] == 30 and report["n_periods"] == sum(map(len, periods.values()))
    assert report["n_unscored"] == sum(rows is None for rows in segments.values())
    assert 0 < report["ap"]["0.5"] < report["ap"]["0.1"] < 1
    turned = {clip: segments[clip] and segments[clip][::-1] for clip in reversed(segments)}
    again = loc.localisation_report(turned, dict(reversed(periods.items())), (0.5,), (100,))
    assert ties or again["ap"]["0.5"] == pytest.approx(report["ap"]["0.5"], abs=1e-12)
    json.dumps(report, allow_nan=False)


def test_report_by_hand():
    # One true segment (IoU 0.8) below one false one, and a period that is missed: precision 1/2 at recall
    # 1/2.
    segments = {"a": [[0, 4, 0.6]], "b": [[0, 1, 0.9]], "c": []}
    periods = {"a": [[0, 5]], "b": [], "c": [[1, 2]]}
    report = loc.localisation_report(segments, periods)
    assert report["ap"] == {"0.5": 0.25, "0.75": 0.25, "0.95": 0.0}
    # IoU 0.8 exceeds 0.5 … 0.75: 6 of the 10 overlaps, for one of two periods.
    assert report["ar"] == dict.fromkeys(("100", "50", "20", "10"), pytest.approx(0.3))


def test_perfect_and_empty_findings():
    periods = {"a": [[0, 5], [7, 8]], "b": [[2, 3]], "c": []}
    perfect = loc.localisation_report(
        {k: [[*row, 0.7] for row in rows] for k, rows in periods.items()}, periods
    )
    assert set(perfect["ap"].values()) == {1.0} and perfect["ar"]["100"] == 1
    empty = loc.localisation_report({"a": None, "b": [], "c": []}, periods)
    assert set(empty["ap"].values()) == {0.0} == set(empty["ar"].values()) and empty["n_unscored"] == 1
    none = loc.localisation_report({"c": [[0, 1, 0.5]]}, {"c": []})
    assert set(none["ap"].values()) == {None} == set(none["ar"].values()) and "no clip has" in none["reason"]


def test_the_same_segment_cannot_be_found_twice():
    periods = {"a": [[0, 5]]}
    report = loc.localisation_report({"a": [[0, 5, 0.9], [0, 5, 0.8], [6, 7, 0.95]]}, periods)
    assert report["ap"]["0.5"] == pytest.approx(0.5)
    both = {"a": [[0, 5], [0, 5.5]]}  # periods that overlap: one segment is worth one of them
    report = loc.localisation_report({"a": [[0, 5, 0.9]]}, both)
    assert report["ap"]["0.5"] == pytest.approx(0.5) and report["ar"]["10"] == pytest.approx(0.95)
    pair = loc.localisation_report(
        {"a": [[0, 5, 0.9], [0, 5.2, 0.8]]}, both
    )  # the second period takes the next
    assert pair["ap"]["0.5"] == 1


def test_an_iou_just_at_the_overlap_is_no_hit():
    report = loc.localisation_report({"a": [[0, 1, 0.9]]}, {"a": [[0, 2]]}, (0.49, 0.5))
    assert report["ap"] == {"0.49": 1.0, "0.5": 0.0} and report["ar"]["100"] == 0


@pytest.mark.parametrize(
    ("segments", "periods", "message"),
    [
        ({"a": []}, {"a": [], "b": []}, "1 clips have segments or periods but not both, such as 'b'"),
        ({"a": [[0, 1]]}, {"a": []}, r"segment of 'a' is not \(start_s, end_s, score\)"),
        ({"a": [[1, 0, 0.5]]}, {"a": []}, "start before end"),
        ({"a": [[0, 1, math.nan]]}, {"a": []}, "finite"),
        ({"a": ["x"]}, {"a": []}, "segment of 'a'"),
        ({"a": []}, {"a": [[2, 2]]}, r"period of 'a' is not \(start_s, end_s\)"),
    ],
)
def test_broken_segments_are_refused(segments, periods, message):
    with pytest.raises(DataError, match=message):
        loc.localisation_report(segments, periods)


def test_settings_are_checked():
    for wrong in ({"ap_overlaps": (1.0,)}, {"ar_overlaps": ()}, {"ar_overlaps": (-0.1,)}):
        with pytest.raises(ConfigError, match="Overlaps lie in"):
            loc.localisation_report({}, {}, **wrong)
    with pytest.raises(ConfigError, match="start at 1"):
        loc.localisation_report({}, {}, ar_counts=(0,))


def steps(p, step=0.2):
    starts = np.arange(len(p)) * step
    return starts, starts + step, np.asarray(p, dtype=float)


def test_a_raised_part_is_the_best_segment():
    p = np.full(50, 0.1)
    p[10:20] = [0.6, 0.8, 0.9, 0.9, 0.95, 0.9, 0.8, 0.85, 0.7, 0.6]
    found = loc.segments_from_scores(*steps(p))
    assert found[0, :2] == pytest.approx([2.0, 4.0])
    assert found[0, 2] == pytest.approx(0.8 - 0.1)
    assert (np.diff(found[:, 2]) <= 0).all() and (found[:, 2] > 0).all()
    report = loc.localisation_report({"a": found}, {"a": [[2.0, 4.0]]})
    assert set(report["ap"].values()) == {1.0}


def test_overlapping_candidates_are_softened_by_their_overlap():
    found = loc.segments_from_scores(*steps([0.1, 0.9, 0.5, 0.1], 1.0), levels=(0.4, 0.9), softness=0.5)
    # (1, 3): .7 less (.1 + .1) / 2. (1, 2): .9 less (.1 + .5) / 2, and IoU 1/2 with the first where that is
    # best.
    first, second = (1, 3, 0.6), (1, 2, 0.6)
    assert sorted(map(tuple, found[:, :2])) == [(1.0, 2.0), (1.0, 3.0)]
    assert found[0, 2] == pytest.approx(first[2]) == pytest.approx(second[2])
    assert found[1, 2] == pytest.approx(0.6 * math.exp(-0.25 / 0.5))
    assert len(loc.segments_from_scores(*steps([0.1, 0.9, 0.5, 0.1]), levels=(0.4, 0.9), max_segments=1)) == 1


def test_contrast_is_taken_with_a_quarter_of_the_length_on_either_side():
    p = [0.0, 0.3, 0.8, 0.8, 0.8, 0.8, 0.1, 0.0]
    found = loc.segments_from_scores(*steps(p, 1.0), levels=(0.5,))
    assert found.tolist() == [[2.0, 6.0, pytest.approx(0.8 - (0.3 + 0.1) / 2)]]


def test_a_wholly_fake_clip_is_one_segment_with_its_mean():
    assert loc.segments_from_scores(*steps([0.95] * 10)).tolist() == [[0.0, 2.0, pytest.approx(0.95)]]
    assert loc.segments_from_scores(*steps([0.05] * 10)).shape == (0, 3)


def test_gaps_pauses_and_short_runs():
    p = [0.0, 0.8, 0.8, 0.0, 0.8, 0.8, 0.0, 0.0, 0.0, 0.8]

    def spans(**options):
        return {
            tuple(row) for row in loc.segments_from_scores(*steps(p, 1.0), levels=(0.5,), **options)[:, :2]
        }

    assert spans() == {(1.0, 3.0), (4.0, 6.0), (9.0, 10.0)}
    assert spans(max_gap_s=1.0) == {(1.0, 6.0), (9.0, 10.0)}
    assert spans(min_length_s=1.5) == {(1.0, 3.0), (4.0, 6.0)}
    p[3] = math.nan  # not judged: never bridged
    assert spans(max_gap_s=1.0) == {(1.0, 3.0), (4.0, 6.0), (9.0, 10.0)}
    found = loc.segments_from_scores([0, 1, 5], [1, 2, 6], [0.9, 0.9, 0.9], levels=(0.5,))
    assert {tuple(row) for row in found[:, :2]} == {(0.0, 2.0), (5.0, 6.0)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [1, 2], [0.5]), "2 starts, 2 ends and 1 scores"),
        (([0, 0.5], [1, 2], [0.5, 0.5]), "do not overlap"),
        (([1, 0], [2, 1], [0.5, 0.5]), "rising order"),
        (([0], [0], [0.5]), "finite times"),
        (([0], [1], [math.nan]), "report the clip as unscored"),
        (([], [], []), "report the clip as unscored"),
        (([0], [1], [3.0]), r"P\(fake\) lies in \[0, 1\]"),
    ],
)
def test_broken_steps_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        loc.segments_from_scores(*arguments)


def test_bad_grouping_is_refused():
    for wrong in ({"levels": ()}, {"levels": (0.0,)}, {"softness": 0}, {"max_segments": 0}):
        with pytest.raises(ConfigError, match="levels lie in"):
            loc.segments_from_scores(*steps([0.5]), **wrong)


def test_report_of_71237_segments_takes_less_than_half_a_second():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 9, 71237)
    rows = np.column_stack([starts, starts + rng.uniform(0.1, 2, 71237), rng.random(71237)])
    segments = {str(k): part for k, part in enumerate(np.array_split(rows, 1000))}
    periods = {clip: [[1.0, 2.0], [4.0, 4.5]] for clip in segments}
    start = time.process_time()
    loc.localisation_report(segments, periods)
    assert time.process_time() - start < 0.5

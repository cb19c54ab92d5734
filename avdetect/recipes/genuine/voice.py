"""Voice: real vocoders that no training heard, beside AASIST on the same files, and natural speech called fake."""

from __future__ import annotations

import numpy as np
import pandas as pd

from avdetect.recipes.genuine.context import Context, Row, beside, row, told
from avdetect.recipes.genuine.figures import difference, mean_over_kinds, ranking, share

RIVAL = "AASIST"


def voice_rows(context: Context) -> list[Row]:
    """EER by dataset, by generator and pooled, the difference to AASIST, and false alarms of natural speech."""
    if "audio" not in context.bundle.encoders:
        return []
    clips = context.clips
    speech = clips[(clips["kind"] == "audio") & clips["audio_label"].notna()]
    rows = []
    for name, of_dataset in speech.groupby("dataset", sort=True):
        if of_dataset["audio_label"].nunique() == 2:
            rows += _vocoder_rows(context, str(name), of_dataset)
        elif of_dataset["audio_label"].eq(1).all():
            rows += _copy_rows(context, str(name), of_dataset, speech)
    return rows + _false_alarms(context)


def _vocoder_rows(context: Context, name: str, speech: pd.DataFrame) -> list[Row]:
    """A dataset of natural and synthetic speech: no generator of it was trained on where it has no train split."""
    seen = bool(speech["learnt"].iloc[0])
    what = f"{name}, {'generators of the training' if seen else 'generators never trained on'}"
    truth, groups = speech["audio_label"].to_numpy(int), speech["group"].to_numpy()
    ours, theirs = speech["audio_logit"].to_numpy(float), speech[RIVAL].to_numpy(float)
    seed, goal = context.seed, None if seen else ("<=", 0.1)
    pooled = ranking(truth, ours, groups, "eer", seed)
    against = ranking(truth, theirs, groups, "eer", seed)
    heard = {RIVAL: against} if np.isfinite(theirs).any() else {}
    rows = [
        row(
            f"voice EER, {what}, pooled", pooled, goal,
            beside(heard | {"our AUC": ranking(truth, ours, groups, "roc_auc", seed)}), rival=against,
        )
    ]  # fmt: skip
    if heard:
        gap = difference(truth, ours, theirs, groups, "eer", seed)
        measure = f"voice EER less {RIVAL}'s on the same files, {name}, pooled"
        rows.append(row(measure, gap, None if seen else ("<", 0.0), _verdict(gap)))
    if pooled["value"] is not None:
        rows.append(_by_generator(speech, what, goal, seed))
    return rows


def _verdict(gap: dict) -> str | None:
    if gap["value"] is None:
        return None
    words = {"a": "ours is better", "b": f"{RIVAL} is better", None: "not told apart"}
    return f"{words[gap['better']]}" + ("" if gap["p"] is None else f", p {gap['p']:.3f}")


def _by_generator(speech: pd.DataFrame, what: str, goal: tuple[str, float] | None, seed: int) -> Row:
    """Each generator against all natural speech of the set; the mean is over those with enough files."""
    found = {}
    for who, column in (("ours", "audio_logit"), (RIVAL, RIVAL)):
        heard = speech[np.isfinite(speech[column].to_numpy(float))]
        if heard["audio_label"].nunique() == 2:
            kinds = heard["method"].fillna("unknown").to_numpy(object)
            found[who] = mean_over_kinds(
                heard["audio_label"].to_numpy(int), heard[column].to_numpy(float), kinds,
                heard["group"].to_numpy(), "eer", seed,
            )  # fmt: skip
    ours = found["ours"]
    each = {kind: figure for kind, figure in ours.get("kinds", {}).items() if figure["value"] is not None}
    worst = max(each, key=lambda kind: each[kind]["value"], default=None)
    said = {RIVAL: found[RIVAL]} if RIVAL in found else {}
    words = [part for part in (beside(said), worst and f"worst {worst} {told(each[worst])}") if part]
    return row(
        f"voice EER, {what}, mean over generators one by one", ours, goal, "; ".join(words) or None, by=found
    )


def _copy_rows(context: Context, name: str, copies: pd.DataFrame, speech: pd.DataFrame) -> list[Row]:
    """Copies whose originals are in other datasets: the same words and speaker, known by the same source."""
    natural = speech[speech["audio_label"].eq(0) & speech["source"].isin(set(copies["source"].dropna()))]
    both = pd.concat([copies, natural])
    truth = both["audio_label"].to_numpy(int)
    groups = both["source"].fillna(both["key"]).to_numpy()
    figures = {
        who: ranking(truth, both[column].to_numpy(float), groups, "eer", context.seed)
        for who, column in (("ours", "audio_logit"), (RIVAL, RIVAL))
    }
    ours = figures.pop("ours")
    heard = {who: figure for who, figure in figures.items() if figure["value"] is not None}
    return [row(f"voice EER, {name} against their originals", ours, None, beside(heard))]


def _false_alarms(context: Context) -> list[Row]:
    """Natural speech that the voice score alone calls fake, by dataset; AASIST at 0.5 of its own softmax."""
    natural = context.genuine()
    natural = natural[natural["audio"].notna()]
    limit = context.bundle.thresholds["audio"]["fake_above"]
    rows = []
    for name, heard in natural.groupby("dataset", sort=True):
        ours = share(heard["audio"].to_numpy(float) > limit, heard["group"].to_numpy(), context.seed)
        judged = heard[heard[RIVAL].notna()]
        said = {}
        if len(judged):
            said[RIVAL] = share(judged[RIVAL].to_numpy(float) > 0, judged["group"].to_numpy(), context.seed)
        rows.append(
            row(f"natural speech called fake by the voice score alone, {name}", ours, None, beside(said))
        )
    return rows

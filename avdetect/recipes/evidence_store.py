"""Evidence of a prepared set, worked out once per clip and kept, so that a killed stage goes on where it stood."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from avdetect.data import PreparedSet, stage_label
from avdetect.data.guard import check_split
from avdetect.encoders import Encoder
from avdetect.errors import DataError
from avdetect.evidence import Evidence, collect_evidence, feature_dims
from avdetect.fusion import stack_features
from avdetect.training.checkpoints import load_state, save_state

SHARD = 64  # clips in a file
EVIDENCE = "avdetect.evidence/2"  # raise it when evidence of the same weights tells more, or other things
SYNC_CLIPS = 400


class EvidenceStore:
    """Per split: what the encoders say of every prepared clip.

    folder: where shards are kept; results of other weights are not taken for these.
    """

    def __init__(
        self, folder: Path, prepared: PreparedSet, encoders: dict[str, Encoder], report: Callable[[str], None]
    ):
        self.prepared, self.encoders, self.report = prepared, encoders, report
        digest = hashlib.sha256(EVIDENCE.encode())
        for encoder in encoders.values():
            for value in encoder.state_dict().values():
                digest.update(value.cpu().contiguous().numpy().tobytes())
        self.folder = folder / digest.hexdigest()[:12]
        self._rows: dict[str, list[Evidence]] = {}

    def table(self, split: str) -> pd.DataFrame:
        """The prepared clips of a split, in the order of `rows`; DataError for `test` unless it is open."""
        check_split([split])
        table = self.prepared.table
        chosen = table[(table["status"] == "ok") & (table["split"] == split)].reset_index(drop=True)
        if chosen.empty:
            raise DataError(
                f"no clip of the {split} split could be prepared: see the reasons in prepared.csv"
            )
        return chosen

    def rows(self, split: str) -> list[Evidence]:
        check_split([split])
        if split not in self._rows:
            table = self.table(split)
            self._rows[split] = [
                evidence
                for start in range(0, len(table), SHARD)
                for evidence in self._shard(table, split, start)
            ]
        return self._rows[split]

    def _shard(self, table: pd.DataFrame, split: str, start: int) -> list[Evidence]:
        part = table.iloc[start : start + SHARD]
        names = hashlib.sha256("\n".join(part["key"]).encode()).hexdigest()[:12]
        path = self.folder / f"{split}-{start // SHARD:05d}-{names}.pt"
        if not path.exists():
            found = [collect_evidence(self.prepared.load(row), self.encoders) for _, row in part.iterrows()]
            save_state({"rows": [evidence.to_dict() for evidence in found]}, path)
            self.report(f"evidence  {split}  {min(start + SHARD, len(table))} of {len(table)} clips")
        return [Evidence.from_dict(values) for values in load_state(path)["rows"]]

    @property
    def dims(self) -> dict[str, tuple[int, int]]:
        """Sizes of (scalars, embedding) per modality."""
        return feature_dims(self.encoders)

    def truths(self, split: str) -> dict[str, np.ndarray]:
        """Truth (N,) of the whole clip ("fused") and of each modality alone; NaN where it is not known."""
        table = self.table(split)
        stages = {"fused": "clip", **{name: name for name in self.encoders}}
        return {
            name: stage_label(table, stage).astype("Float64").to_numpy(float, na_value=np.nan)
            for name, stage in stages.items()
        }

    def sync_pairs(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Truth and lip-sync logit (2N,) of N genuine clips, each in sync (0) and with its sound shifted (1).

        Few datasets hold labelled out-of-sync clips; shifted genuine ones mean the same everywhere. The sound goes
        round, by 0.2 to 0.6 s either way; at most `SYNC_CLIPS` clips.
        """
        table, rows = self.table(split), self.rows(split)
        genuine = np.flatnonzero(
            table["label"].eq(0).fillna(False).to_numpy(bool) & [row.sync is not None for row in rows]
        )
        rng = np.random.default_rng(0)
        truth, logits = [], []
        for index in rng.permutation(genuine)[:SYNC_CLIPS]:
            clip = self.prepared.load(table.iloc[index])
            shift = int(rng.choice([-1, 1]) * rng.uniform(0.2, 0.6) * clip.settings.sample_rate)
            clip.audio = np.roll(clip.audio, shift)
            shifted = collect_evidence(clip, {"lipsync": self.encoders["lipsync"]}).sync
            if shifted is not None:
                truth += [0.0, 1.0]
                logits += [rows[index].sync.logit, shifted.logit]
        if not truth:
            raise DataError(
                f"no genuine {split} clip has a talking face to calibrate lip-sync on: take lipsync out"
            )
        return np.array(truth), np.array(logits)

    def features(self, split: str) -> dict[str, Tensor]:
        """Input of the fusion head, with `label` and `own`, of the clips that have a label and several judged parts.

        Of those with any evidence where these do not hold both classes: what one modality alone says is the verdict
        as it is, so such clips teach the head nothing that it is asked for.
        """
        names, rows = list(self.encoders), self.rows(split)
        batch = stack_features([row.features() for row in rows], names, self.dims)
        table, truths = self.table(split), self.truths(split)
        # Only what is known of a modality itself: a clip's label is no witness of where the fake is.
        # In a genuine clip every part is genuine.
        told = {"visual": table["visual_label"], "audio": table["audio_label"]}
        truths |= {
            name: label.astype("Float64").mask(table["label"].eq(0), 0.0).to_numpy(float, na_value=np.nan)
            for name, label in told.items()
            if name in names
        }
        batch["label"] = torch.from_numpy(truths["fused"]).float()
        batch["own"] = torch.from_numpy(np.stack([truths[name] for name in names], 1)).float()
        usable = torch.isfinite(batch["label"]) & batch["mask"].any(1)
        several = usable & (batch["mask"].sum(1) > 1)
        if len(batch["label"][several].unique()) > 1:
            usable = several
        return {key: value[usable] for key, value in batch.items()}

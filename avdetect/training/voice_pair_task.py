"""Learning from pairs of genuine speech and its fake."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from avdetect.data.voice_pairs import GENUINE, LABELLED, PSEUDO
from avdetect.encoders import Encoder
from avdetect.training.losses import BinaryLoss
from avdetect.training.tasks import EncoderTask, clip_metrics


class VoicePairTask(EncoderTask):
    """Batches of `data.voice_pairs.VoicePairDataset`: each genuine sample is followed by its fake.

    Beside the binary loss, `rank` weighs a loss on the difference of the two logits of a pair (a logistic one, as in
    Burges et al., RankNet, 2005): it cannot be lowered by what both sides of a pair share, as the channel.
    """

    def __init__(
        self,
        encoder: Encoder,
        train_loader: DataLoader,
        val_loader: DataLoader,
        loss: BinaryLoss | None = None,
        rank: float = 0.5,
    ):
        super().__init__("audio", encoder, train_loader, val_loader, loss)
        self.rank = rank

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = model(batch["x"])
        own = self.loss(logits, batch["label"])
        rank = F.softplus(logits[0::2] - logits[1::2]).mean()
        return {"loss": own + self.rank * rank, "binary": own, "rank": rank}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return super().predict(model, batch) | {"origin": batch["origin"]}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        """Of all clips, and AUC of each kind of fake against all genuine clips; `auc` is the mean of these."""
        origin = outputs["origin"]
        found = {}
        for name, kind in (("labelled", LABELLED), ("pseudo", PSEUDO)):
            some = np.isin(origin, [GENUINE, kind])
            if (origin == kind).any():
                parts = (outputs[key][some] for key in ("clip", "label", "logit"))
                found[f"auc_{name}"] = clip_metrics(*parts)["auc"]
        all_ = super().metrics(outputs)
        return {"loss": all_["loss"], "auc": float(np.mean(list(found.values()))), **found}

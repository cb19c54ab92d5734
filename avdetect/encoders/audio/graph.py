"""Graph attention between parts of a spectrum: the layers of AASIST.

Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks", ICASSP
2022, sections 2 and 3. Graphs are complete; nodes are rows of (N, nodes, features).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _weight(features: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(features, 1)))


def _pairs(x: Tensor) -> Tensor:
    """(N, n, D) -> the products of every two nodes (N, n, n, D)."""
    return x.unsqueeze(2) * x.unsqueeze(1)


def _normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch norm over clips and nodes together, then SELU."""
    return F.selu(norm(x.flatten(0, 1)).view_as(x))


class GraphAttention(nn.Module):
    """One kind of nodes, each seeing all with attention: (N, n, inputs) -> (N, n, outputs)."""

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.dropout = nn.Dropout(0.2)
        self.pair = nn.Linear(inputs, outputs)
        self.pair_weight = _weight(outputs)
        self.attended = nn.Linear(inputs, outputs)
        self.itself = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, inputs) -> (N, n, outputs)."""
        x = self.dropout(x)
        scores = (torch.tanh(self.pair(_pairs(x))) @ self.pair_weight).squeeze(-1)
        attention = torch.softmax(scores / self.temperature, dim=-1)
        return _normalise(self.norm, self.attended(attention @ x) + self.itself(x))


class MixedGraphAttention(nn.Module):
    """Two kinds of nodes with a weight of attention for each pair of kinds, and a master node that listens.

    The published name is heterogeneous stacking graph attention layer (HS-GAL).
    """

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.dropout = nn.Dropout(0.2)
        self.enter_a = nn.Linear(inputs, inputs)
        self.enter_b = nn.Linear(inputs, inputs)
        self.pair = nn.Linear(inputs, outputs)
        self.weight_aa = _weight(outputs)
        self.weight_bb = _weight(outputs)
        self.weight_ab = _weight(outputs)
        self.attended = nn.Linear(inputs, outputs)
        self.itself = nn.Linear(inputs, outputs)
        self.master_pair = nn.Linear(inputs, outputs)
        self.master_weight = _weight(outputs)
        self.master_attended = nn.Linear(inputs, outputs)
        self.master_itself = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def _scores(self, x: Tensor, count_a: int) -> Tensor:
        pairs = torch.tanh(self.pair(_pairs(x)))
        of_a, of_b = pairs[:, :count_a], pairs[:, count_a:]
        rows = (
            torch.cat([of_a[:, :, :count_a] @ self.weight_aa, of_a[:, :, count_a:] @ self.weight_ab], dim=2),
            torch.cat([of_b[:, :, :count_a] @ self.weight_ab, of_b[:, :, count_a:] @ self.weight_bb], dim=2),
        )
        return torch.cat(rows, dim=1).squeeze(-1)

    def forward(self, a: Tensor, b: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, a, inputs), (N, b, inputs), (N or 1, 1, inputs) -> the same with `outputs` features."""
        count_a = a.shape[1]
        x = self.dropout(torch.cat([self.enter_a(a), self.enter_b(b)], dim=1))
        attention = torch.softmax(self._scores(x, count_a) / self.temperature, dim=-1)
        heard = torch.tanh(self.master_pair(x * master)) @ self.master_weight
        heard = torch.softmax(heard / self.temperature, dim=1).transpose(1, 2)
        master = self.master_attended(heard @ x) + self.master_itself(master)
        x = _normalise(self.norm, self.attended(attention @ x) + self.itself(x))
        return x[:, :count_a].contiguous(), x[:, count_a:].contiguous(), master


class GraphPool(nn.Module):
    """The `keep` part of the nodes with the highest scores, times their scores, best first (at least one)."""

    def __init__(self, features: int, keep: float) -> None:
        super().__init__()
        self.keep = keep
        self.dropout = nn.Dropout(0.3)
        self.score = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, D) -> (N, max(1, floor(n * keep)), D)."""
        scores = torch.sigmoid(self.score(self.dropout(x)))
        count = max(int(x.shape[1] * self.keep), 1)
        best = torch.topk(scores, count, dim=1).indices
        return torch.gather(x * scores, 1, best.expand(-1, -1, x.shape[2]))

"""AASIST: graph attention between spectral and temporal parts of a learned map of the waveform."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.graph import GraphAttention, GraphPool, MixedGraphAttention
from avdetect.encoders.audio.sinc import SincBank
from avdetect.encoders.base import Encoder, full_precision
from avdetect.transforms import AudioPreprocess

BLOCKS = 6
KERNEL = 129  # samples of a band-pass filter
SPOOF, BONA_FIDE = 0, 1  # rows of the last layer


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut, then a third of the time: (N, C, F, T) -> (N, D, F, T / 3).

    The first kernel adds a row of frequency, the second takes it away again. The published code computes a
    norm before the first convolution (`norm1`) but feeds the convolution without it. The published weights
    were trained so; the norm's parameters are kept, frozen, as they are part of the published layout.
    """

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.norm1 = None if first else nn.BatchNorm2d(before).requires_grad_(False)
        self.conv1 = nn.Conv2d(before, after, (2, 3), padding=(1, 1))
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, (2, 3), padding=(0, 1))
        same = before == after
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, F, T) -> (N, D, F, T // 3)."""
        out = self.conv2(F.selu(self.norm2(self.conv1(x))))
        return F.max_pool2d(out + self.shortcut(x), (1, 3))


class Branch(nn.Module):
    """Two layers of mixed attention with a master node of its own; the second adds to the first."""

    def __init__(self, inputs: int, outputs: int, keep: float, temperature: float) -> None:
        super().__init__()
        self.master = nn.Parameter(torch.randn(1, 1, inputs))
        self.first = MixedGraphAttention(inputs, outputs, temperature)
        self.second = MixedGraphAttention(outputs, outputs, temperature)
        self.temporal_pool = GraphPool(outputs, keep)
        self.spectral_pool = GraphPool(outputs, keep)
        self.dropout = nn.Dropout(0.2)

    def forward(self, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes of time and of frequency -> fewer of both, and the master (N, 1, outputs)."""
        temporal, spectral, master = self.first(temporal, spectral, self.master)
        nodes = self.temporal_pool(temporal), self.spectral_pool(spectral), master
        added = self.second(*nodes)
        temporal, spectral, master = (self.dropout(x + y) for x, y in zip(nodes, added, strict=True))
        return temporal, spectral, master


class AASIST(Encoder):
    """Sinc bank -> residual blocks -> graphs of frequency and of time -> two branches, element-wise maximum.

    Jung, Heo, Tak, Shim, Chung, Lee, Yu and Evans, ICASSP 2022; the published code and weights
    (https://github.com/clovaai/aasist) are under the MIT licence, this is an implementation of its own. The
    last layer keeps the two published outputs (spoof, bona fide). The waveform is judged at the level that it
    has, as published: loudness matters. Windows of 64,600 samples; any duration from `min_samples` on works.
    """

    kind = "audio"

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),  # of the first two residual blocks and of the other four
        graph: tuple[int, int] = (64, 32),  # features of a node, before and in the branches
        keep: tuple[float, float, float] = (0.5, 0.7, 0.5),  # part of the nodes: spectral, temporal, branches
        temperatures: tuple[float, float, float] = (2.0, 2.0, 100.0),  # of attention, in the same order
        filters: int = 70,
        dropout: float = 0.5,  # on the embedding
        sample_rate: int = 16000,
        window_s: float = 4.0375,  # of the preprocessing, not a limit of the network
        hop_s: float = 2.01875,
        name: str = "aasist",
    ) -> None:
        settings = {
            "channels": list(channels),
            "graph": list(graph),
            "keep": list(keep),
            "temperatures": list(temperatures),
            "filters": filters,
            "dropout": dropout,
            "sample_rate": sample_rate,
            "window_s": window_s,
            "hop_s": hop_s,
        }
        super().__init__(name, 5 * graph[1], AudioPreprocess(sample_rate, window_s, hop_s), settings)
        self.front_end = SincBank(filters, KERNEL, sample_rate)
        self.first_norm = nn.BatchNorm2d(1)
        widths = (1, channels[0], channels[0], *(channels[1],) * (BLOCKS - 2))
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(before, after, first=i == 0)
                for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )
        self.spectral_position = nn.Parameter(torch.randn(1, filters // 3, channels[1]))
        self.spectral_attention = GraphAttention(channels[1], graph[0], temperatures[0])
        self.temporal_attention = GraphAttention(channels[1], graph[0], temperatures[1])
        self.spectral_pool = GraphPool(graph[0], keep[0])
        self.temporal_pool = GraphPool(graph[0], keep[1])
        self.branches = nn.ModuleList(Branch(*graph, keep[2], temperatures[2]) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.embedding_dim, 2)
        self.min_samples = 3 ** (1 + BLOCKS) + KERNEL - 1  # one value of time is left after the pools

    def _map(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> magnitudes of the learned map (N, C, filters / 3, time)."""
        if x.shape[-1] < self.min_samples:
            raise ValueError(f"{self.name} needs at least {self.min_samples} samples, not {x.shape[-1]}")
        x = F.max_pool2d(self.front_end(x).unsqueeze(1), 3)
        return self.blocks(F.selu(self.first_norm(x))).abs()

    def embed(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> (N, 160): of time maximum and mean, of frequency the same, the master node."""
        features = self._map(x)
        # half precision ties scores of nodes that differ, and changes which ones are kept
        with full_precision(features):
            features = features.float()
            spectral = features.amax(dim=3).transpose(1, 2) + self.spectral_position
            spectral = self.spectral_pool(self.spectral_attention(spectral))
            temporal = features.amax(dim=2).transpose(1, 2)
            temporal = self.temporal_pool(self.temporal_attention(temporal))
            both = (branch(temporal, spectral) for branch in self.branches)
            temporal, spectral, master = (torch.maximum(*pair) for pair in zip(*both, strict=True))
            return torch.cat(
                [
                    temporal.abs().amax(dim=1),
                    temporal.mean(dim=1),
                    spectral.abs().amax(dim=1),
                    spectral.mean(dim=1),
                    master.squeeze(1),
                ],
                dim=1,
            )

    def class_logits(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> the two published outputs (N, 2): spoof, bona fide."""
        return self.classifier(self.dropout(embedding))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits of the softmax, positive = fake."""
        logits = self.class_logits(embedding)
        return logits[:, SPOOF] - logits[:, BONA_FIDE]

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, window_samples) of quiet noise."""
        return (0.1 * torch.randn(batch, self.preprocess.window_samples),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {published_to_own(key): value for key, value in state.items()}


_TOP = {"pos_S": "spectral_position", "first_bn": "first_norm", "out_layer": "classifier"}
_ATTENTION = {
    "att_proj": "pair",
    "att_weight": "pair_weight",
    "att_weight11": "weight_aa",
    "att_weight22": "weight_bb",
    "att_weight12": "weight_ab",
    "att_weightM": "master_weight",
    "att_projM": "master_pair",
    "proj_type1": "enter_a",
    "proj_type2": "enter_b",
    "proj_with_att": "attended",
    "proj_without_att": "itself",
    "proj_with_attM": "master_attended",
    "proj_without_attM": "master_itself",
    "bn": "norm",
}
_BLOCK = {
    "bn1": "norm1",
    "conv1": "conv1",
    "bn2": "norm2",
    "conv2": "conv2",
    "conv_downsample": "shortcut",
}
_AXIS = {"S": "spectral", "T": "temporal"}


def published_to_own(key: str) -> str:
    """A key of the published layout -> ours; an unknown one stays as it is."""
    top, dot, rest = key.partition(".")
    if top in _TOP:
        return _TOP[top] + dot + rest
    if match := re.fullmatch(r"encoder\.(\d+)\.0\.(\w+)\.(\w+)", key):
        if match[2] in _BLOCK:
            return f"blocks.{match[1]}.{_BLOCK[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"master([12])", key):
        return f"branches.{int(match[1]) - 1}.master"
    if match := re.fullmatch(r"pool_(h?)([ST])([12]?)\.proj\.(\w+)", key):
        place = f"branches.{int(match[3]) - 1}." if match[1] and match[3] else ""
        return f"{place}{_AXIS[match[2]]}_pool.score.{match[4]}"
    if match := re.fullmatch(r"(GAT_layer_[ST]|HtrgGAT_layer_ST[12][12])\.(\w+)(\.\w+)?", key):
        layer, part, rest = match[1], match[2], match[3] or ""
        if part in _ATTENTION:
            return f"{_layer(layer)}.{_ATTENTION[part]}{rest}"
    return key


def _layer(theirs: str) -> str:
    if theirs.startswith("GAT_layer_"):
        return f"{_AXIS[theirs[-1]]}_attention"
    return f"branches.{int(theirs[-2]) - 1}.{('first', 'second')[int(theirs[-1]) - 1]}"

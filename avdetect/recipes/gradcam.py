"""Grad-CAM of a visual encoder (Selvaraju et al., ICCV 2017): which parts of a face speak for *fake*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

SHOWN = 4  # clips of each class


def gradcam_maps(encoder: Encoder, x: Tensor) -> Tensor:
    """Inputs (N, 3, H, W) -> maps (N, H, W) in [0, 1] of the last convolution that leaves more than one place.

    Each channel of its output counts by the mean of the logit's gradient there; what lowers the logit is cut off.
    Raises ConfigError for a network without such a convolution (a transformer).
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.dim() == 4 and output.shape[-1] > 1 and output.requires_grad:
            found.append(output)

    hooks = [m.register_forward_hook(keep) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.enable_grad():
            logits = encoder(x.detach().requires_grad_())
            reached = [output for output in found if output.shape[0] == len(x)]
            if not reached:
                raise ConfigError(f"{encoder.name} has no convolution to draw Grad-CAM of: leave gradcam out")
            slopes = torch.autograd.grad(logits.sum(), reached, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    output, slope = [(o, g) for o, g in zip(reached, slopes, strict=True) if g is not None][-1]
    weights = slope.mean((2, 3), keepdim=True)
    maps = F.relu((weights * output).sum(1, keepdim=True))
    maps = F.interpolate(maps, size=x.shape[-2:], mode="bilinear", align_corners=False)[:, 0].detach()
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)


def gradcam(context: Context, table: pd.DataFrame) -> dict[str, Any]:
    """`plots/gradcam.png`: test faces that are judged fake with most and with least confidence, of both classes."""
    encoder = context.encoders["visual"]
    chosen = pd.concat(
        [
            rows.iloc[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)]
            for _, rows in table[table["visual"].notna()].sort_values("visual").groupby("label")
        ]
    )
    clips = context.evidence.table("test").set_index("key", drop=False)
    device = next(encoder.parameters()).device
    figure = Figure(figsize=(1.9 * SHOWN, 4.6 * 2), dpi=110, layout="constrained")
    figure.suptitle(
        "Grad-CAM: where a face speaks for fake (bright), from genuine-looking to fake-looking", fontsize=11
    )
    grid = figure.subplots(4, SHOWN, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for label, rows in chosen.groupby("label"):
        for column, (_, row) in enumerate(rows.iterrows()):
            crop = context.prepared.load(clips.loc[row["key"]]).tracks[0].crops[:1]
            heat = gradcam_maps(encoder, encoder.preprocess(crop).to(device))[0].cpu().numpy()
            top, bottom = grid[2 * int(label)][column], grid[2 * int(label) + 1][column]
            top.imshow(crop[0])
            top.set_title(f"{'fake' if label else 'genuine'}, P(fake) {row['visual']:.2f}", fontsize=9)
            bottom.imshow(crop[0], extent=(0, 1, 0, 1))
            bottom.imshow(heat, extent=(0, 1, 0, 1), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    path = context.run.path / "plots" / "gradcam.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    return {
        "n": len(chosen),
        "plot": str(path.relative_to(context.run.path)),
        "clips": chosen["key"].tolist(),
    }

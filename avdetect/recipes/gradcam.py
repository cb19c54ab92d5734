"""Grad-CAM of a visual encoder (Selvaraju et al., ICCV 2017): which parts of a face speak for *fake*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from avdetect.explain import gradcam_maps

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

SHOWN = 4  # clips of each class


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

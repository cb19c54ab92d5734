"""What happened in training, for people and programs: JSON lines and TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path


class History:
    """`history.jsonl` of a run: one line an epoch, all stages in one file."""

    def __init__(self, path: Path):
        self.path = path

    def rows(self) -> list[dict]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines() if line.strip()]

    def replace(self, stage: str, rows: list[dict]) -> None:
        """Set the lines of one stage, atomically: the checkpoint is the truth, also after a kill."""
        others = [row for row in self.rows() if row["stage"] != stage]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in others + rows))
        os.replace(temporary, self.path)

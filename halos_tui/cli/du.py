"""This verb is `du`: it shows what each run has on disk."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from halos_backend.store.disk_use import DiskMeter
from halos_backend.store.registry import list_runs
from halos_backend.store.run_dir import RunDir

from halos_tui.cli.options import Json, RunsDir, runs_root
from halos_tui.formatting import columns, size, visible
from halos_tui.headless import notices

KINDS = ("checkpoints", "trainer_states", "rows", "logs", "other", "total")
HEADER = ("name", *(kind.replace("_", " ") for kind in KINDS))


def command(json: Json = False, runs_dir: RunsDir = None) -> None:
    """Show what each run has on disk, the largest first.

    Rows are prompts, samples, scores and feedback. With --json bytes. A file that several runs
    share counts once.
    """
    root, meter = runs_root(runs_dir), DiskMeter()
    rows = sorted(
        (_row(run_dir, meter) for run_dir in list_runs(root)),
        key=lambda row: (-row["total"], row["name"]),
    )
    if json:
        for row in rows:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    elif rows:
        everything = {kind: sum(row[kind] for row in rows) for kind in KINDS}
        lines = [_cells(row) for row in rows]
        if len(rows) > 1:
            lines.append(_cells({"name": "in all", **everything}))
        table = columns(HEADER, lines)
        sys.stdout.write("\n".join(table) + "\n")
    else:
        notices.say(f"no runs in {root}")


def _row(run_dir: RunDir, meter: DiskMeter) -> dict[str, Any]:
    use = meter.measure(run_dir.path)
    return {
        "name": run_dir.name,
        "path": str(run_dir.path),
        **msgspec.to_builtins(use),
        "total": use.total,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [visible(row["name"]), *(size(row[kind]) for kind in KINDS)]

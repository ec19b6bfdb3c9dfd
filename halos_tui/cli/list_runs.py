"""This verb is `list`: it shows every run under the runs directory, newest first."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from halos_backend.errors import HalosError
from halos_backend.store.own_words import words_or_problem
from halos_backend.store.registry import check_readable, list_runs, load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.standard_error import Reward, reward_of
from halos_backend.store.state import AT_WORK

from halos_tui.cli.options import Json, RunsDir, runs_root
from halos_tui.formatting import ABSENT, columns, date_time, visible
from halos_tui.headless import notices
from halos_tui.tracking.rounds import last_reward, reward_among, usual_places
from halos_tui.tracking.status import supervision_of

HEADER = ("name", "status", "round", "stage", "reward", "started")


def command(json: Json = False, runs_dir: RunsDir = None) -> None:
    """Show every run, newest first."""
    root = runs_root(runs_dir)
    found = [_row(run_dir) for run_dir in list_runs(root)]
    if json:
        for row, _ in found:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    elif found:
        usual = usual_places(reward for _, reward in found if reward is not None)
        more = [name for name in ("title", "tags") if any(row[name] for row, _ in found)]
        cells = [_with_words(row, more, reward_among(reward, usual)) for row, reward in found]
        table = columns((HEADER[0], *more, *HEADER[1:]), cells, right="round reward")
        sys.stdout.write("\n".join(table) + "\n")
    else:
        notices.say(f"no runs in {root}; start one: halos-tui demo")


def _row(run_dir: RunDir) -> tuple[dict[str, Any], Reward | None]:
    """Returns what is shown of a run, and its reward; one that cannot be read says why, and hides
    no other.
    """
    supervision = supervision_of(run_dir)  # read before the state, so that its last event is seen
    words, _ = words_or_problem(run_dir)
    row: dict[str, Any] = {
        "name": run_dir.name,
        "path": str(run_dir.path),
        **msgspec.to_builtins(words),
    }
    try:
        state = check_readable(load_state(run_dir), run_dir)
    except (HalosError, OSError) as error:
        return {**row, "status": "unreadable", "problem": str(error)}, None
    current = state.rounds[-1] if state.rounds else None
    reward = last_reward(state)
    row |= {
        "status": supervision.status_of(state),
        "round": state.num_rounds,
        "num_rounds": planned_rounds(state),
        "stage": current.active.stage if current is not None and current.active else None,
        "obstacle": state.obstacle if state.status in AT_WORK else None,
        "reward_mean": None if reward is None else reward.mean,
        "is_final_reward": state.closing is not None and reward_of(state.closing) is not None,
        "created_t": state.created_t,
        "updated_t": state.updated_t,
    }
    return row, reward


def _with_words(row: dict[str, Any], more: list[str], reward: str) -> list[str]:
    """Returns the cells, and behind the name those of a person's own words."""
    name, *others = _cells(row, reward)
    found = [row[name] for name in more]
    words = [text if isinstance(text, str) else " ".join(text) for text in found]
    return [name, *map(visible, words), *others]


def _cells(row: dict[str, Any], reward: str) -> list[str]:
    if "problem" in row:
        return [
            visible(row["name"]),
            row["status"],
            ABSENT,
            ABSENT,
            ABSENT,
            visible(row["problem"]),
        ]
    planned = row["num_rounds"]
    return [
        visible(row["name"]),
        row["status"],
        f"{row['round']}/{planned}" if planned else str(row["round"]),
        row["stage"] or ("waiting" if row["obstacle"] else ABSENT),
        reward,
        date_time(row["created_t"]),
    ]

"""Reads what a list of many runs shows of one, from its snapshot and without decoding the rest of
it.

The summaries of every round are nearly all of it. A snapshot that is not the whole journal, or
whose settings have changed since, is left to `registry.load_state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from halos_backend import SCHEMA_VERSION
from halos_backend.events import ClosingPrompts
from halos_backend.records import BAD_JSON
from halos_backend.settings_json import Change
from halos_backend.store.prompt_order import rounds_to_come
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.request_rules import Standing, standing_of
from halos_backend.store.requests import At, When
from halos_backend.store.round_state import StageStatus
from halos_backend.store.run_dir import RunDir
from halos_backend.store.standard_error import (
    Reward,
    RewardChange,
    change_between,
    reward_in,
    reward_of,
)
from halos_backend.store.state import RunState, RunStatus


class RunSummary(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """Holds what the list shows of one run.

    `round` is the newest, 0 before the first, of `num_rounds` that there will be, if one knows;
    `rewards` are the means of the rounds that have one, oldest first, and last of the result where
    it is scored, and `reward_rounds` their numbers; `reward` is the last one, and `reward_change`
    what it is more than the first; `loss` and `settings_json` are the newest round's. `standing`
    says what can be asked of the run.
    """

    status: RunStatus
    round: int
    num_rounds: int | None
    loss: str
    stage: str
    rewards: tuple[float, ...]
    reward_rounds: tuple[int, ...]
    reward: Reward | None
    reward_change: RewardChange | None
    created_t: float
    reason: str | None
    obstacle: str | None
    settings_json: bytes
    standing: Standing

    @cached_property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.settings_json)
        return found


class _Loss(msgspec.Struct):
    kind: str = ""


class _Train(msgspec.Struct):
    loss: _Loss = msgspec.field(default_factory=_Loss)


class _Loop(msgspec.Struct):
    prompts_per_round: int = 0
    num_rounds: int | None = None
    num_epochs: int = 1
    num_prompts: int | None = None


class _Settings(msgspec.Struct):
    train: _Train = msgspec.field(default_factory=_Train)
    loop: _Loop = msgspec.field(default_factory=_Loop)


class _Summary(msgspec.Struct):
    reward_mean: float | None = None
    reward_std: float | None = None
    reward_stderr: float | None = None
    reward_change_stderrs: list[tuple[int, float | None]] | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    num_completions: int | None = None
    num_unscored: int | None = None


class _Stage(msgspec.Struct):
    status: StageStatus
    summary: _Summary = msgspec.field(default_factory=_Summary)


class _Round(msgspec.Struct):
    round: int
    num_prompts: int
    cursor: int
    stages: dict[str, _Stage] = {}
    closing: ClosingPrompts | None = None
    finished_t: float | None = None
    checkpoint: str | None = None
    unscored: str | None = None

    @property
    def reward(self) -> Reward | None:
        label = self.stages.get("label")
        if label is None or label.status != "finished":
            return None
        return reward_in(label.summary, self.round, self.num_prompts)


class _State(msgspec.Struct):
    settings: msgspec.Raw
    run: str = ""
    schema_version: int = 0
    status: RunStatus = "created"
    created_t: float = 0.0
    num_prompts: int = 0
    first_cursor: int = 0
    rounds: list[_Round] = []
    reason: str | None = None
    obstacle: str | None = None
    changes: list[Change] = []
    failure: str | None = None
    pause_at: At | None = None
    abort_when: When | None = None
    pruned: list[str] = []


class _Snapshot(msgspec.Struct):
    offset: int
    state: _State
    schema_version: int = SCHEMA_VERSION


_decoder = msgspec.json.Decoder(_Snapshot)
_settings_decoder = msgspec.json.Decoder(_Settings)


def summarize_run(run_dir: RunDir, *, journal_bytes: int) -> RunSummary:
    """Summarizes a run whose journal has that many bytes. Raises CorruptFileError, UsageError like
    `load_state` and `check_readable`.
    """
    state = _whole_snapshot(run_dir, journal_bytes)
    if state is None:
        return summary_of(check_readable(load_state(run_dir), run_dir))
    rewards = [reward for round in state.rounds if (reward := round.reward) is not None]
    newest = state.rounds[-1].stages if state.rounds else {}
    settings = _settings_decoder.decode(state.settings)
    begun = [round for round in state.rounds if round.closing is None]
    cursor = begun[-1].cursor + begun[-1].num_prompts if begun else state.first_cursor
    return RunSummary(
        status=state.status,
        round=len(begun),
        num_rounds=_planned(settings.loop, len(begun), cursor, state.num_prompts),
        loss=settings.train.loss.kind,
        stage=next((name for name, stage in newest.items() if stage.status == "running"), ""),
        rewards=tuple(reward.mean for reward in rewards),
        reward_rounds=tuple(reward.round for reward in rewards),
        reward=rewards[-1] if rewards else None,
        reward_change=_first_to_last(rewards),
        created_t=state.created_t,
        reason=state.reason,
        obstacle=state.obstacle,
        settings_json=bytes(state.settings),
        standing=standing_of(state),
    )


def summary_of(state: RunState) -> RunSummary:
    """Summarizes a state that is known."""
    active = state.rounds[-1].active if state.rounds else None
    rewards = [found for round in state.rounds if (found := reward_of(round)) is not None]
    num_begun = state.num_rounds
    settings = state.settings_of(max(1, num_begun))
    return RunSummary(
        status=state.status,
        round=num_begun,
        num_rounds=planned_rounds(state),
        loss=str(settings.get("train", {}).get("loss", {}).get("kind", "")),
        stage=active.stage if active is not None else "",
        rewards=tuple(reward.mean for reward in rewards),
        reward_rounds=tuple(reward.round for reward in rewards),
        reward=rewards[-1] if rewards else None,
        reward_change=_first_to_last(rewards),
        created_t=state.created_t,
        reason=state.reason,
        obstacle=state.obstacle,
        settings_json=msgspec.json.encode(settings),
        standing=standing_of(state),
    )


def planned_rounds(state: RunState) -> int | None:
    """Counts the rounds of the whole run as it is set up now; None before that is known."""
    return _planned(_loop_of(state), state.num_rounds, state.cursor, state.num_prompts)


def to_come(state: RunState) -> tuple[int, int] | None:
    """Counts the rounds after the one at hand, and the prompts taken when they are done."""
    return _to_come(_loop_of(state), state.num_rounds, state.cursor, state.num_prompts)


def _loop_of(state: RunState) -> _Loop:
    return msgspec.convert(state.settings_of(state.num_rounds + 1).get("loop", {}), _Loop)


def _planned(loop: _Loop, num_begun: int, cursor: int, num_prompts: int) -> int | None:
    """Adds the rounds that still find prompts to those that have begun."""
    found = _to_come(loop, num_begun, cursor, num_prompts)
    return loop.num_rounds if found is None else num_begun + found[0]


def _to_come(loop: _Loop, num_begun: int, cursor: int, num_prompts: int) -> tuple[int, int] | None:
    if not loop.prompts_per_round or not num_prompts:
        return None
    return rounds_to_come(
        cursor=cursor,
        rounds_done=num_begun,
        num_rounds=loop.num_rounds,
        prompts_per_round=loop.prompts_per_round,
        num_prompts=num_prompts,
        num_epochs=loop.num_epochs,
        budget=loop.num_prompts,
    )


def _whole_snapshot(run_dir: RunDir, journal_bytes: int) -> _State | None:
    """Reads the snapshot; None where only the journal can tell, or the settings are not those of
    the beginning.
    """
    try:
        snapshot = _decoder.decode(run_dir.state.read_bytes())
        _settings_decoder.decode(snapshot.state.settings)
    except (OSError, *BAD_JSON):
        return None
    state = snapshot.state
    if snapshot.offset != journal_bytes or snapshot.schema_version != SCHEMA_VERSION:
        return None
    is_plain = state.run and state.schema_version <= SCHEMA_VERSION and not state.changes
    return state if is_plain else None


def _first_to_last(rewards: Sequence[Reward]) -> RewardChange | None:
    return change_between(rewards[0], rewards[-1]) if len(rewards) > 1 else None

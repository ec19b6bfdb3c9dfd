"""What a list of many runs shows of one: read from its snapshot without decoding the rest of it.

The summaries of every round are nearly all of it. A snapshot that is not the whole journal, or
whose settings have changed since, is left to `registry.load_state`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from halos_backend import SCHEMA_VERSION
from halos_backend.records import BAD_JSON
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.round_state import RoundState, StageStatus
from halos_backend.store.run_dir import RunDir
from halos_backend.store.setting_changes import Change
from halos_backend.store.state import RunState, RunStatus


class Glance(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """`round` is the newest, 0 before the first, of `num_rounds` planned as far as one knows;
    `rewards` are the means of the rounds that have one, oldest first; `loss` and `settings_json`
    are the newest round's.
    """

    status: RunStatus
    round: int
    num_rounds: int | None
    loss: str
    stage: str
    rewards: tuple[float, ...]
    created_t: float
    reason: str | None
    obstacle: str | None
    settings_json: bytes

    @cached_property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.settings_json)
        return found


class _Loss(msgspec.Struct):
    kind: str = ""


class _Train(msgspec.Struct):
    loss: _Loss = msgspec.field(default_factory=_Loss)


class _Loop(msgspec.Struct):
    num_rounds: int | None = None


class _Settings(msgspec.Struct):
    train: _Train = msgspec.field(default_factory=_Train)
    loop: _Loop = msgspec.field(default_factory=_Loop)


class _Summary(msgspec.Struct):
    reward_mean: float | None = None


class _Stage(msgspec.Struct):
    status: StageStatus
    summary: _Summary = msgspec.field(default_factory=_Summary)


class _Round(msgspec.Struct):
    stages: dict[str, _Stage] = {}


class _State(msgspec.Struct):
    settings: msgspec.Raw
    run: str = ""
    schema_version: int = 0
    status: RunStatus = "created"
    created_t: float = 0.0
    rounds: list[_Round] = []
    reason: str | None = None
    obstacle: str | None = None
    changes: list[Change] = []


class _Snapshot(msgspec.Struct):
    offset: int
    state: _State
    schema_version: int = SCHEMA_VERSION


_decoder = msgspec.json.Decoder(_Snapshot)
_settings_decoder = msgspec.json.Decoder(_Settings)


def glance(run_dir: RunDir, *, journal_bytes: int) -> Glance:
    """At a run whose journal is so long. Raises CorruptFileError, UsageError like `load_state` and
    `check_readable`.
    """
    state = _whole_snapshot(run_dir, journal_bytes)
    if state is None:
        return glance_of(check_readable(load_state(run_dir), run_dir))
    means = [
        label.summary.reward_mean
        for round in state.rounds
        if (label := round.stages.get("label")) is not None
    ]
    newest = state.rounds[-1].stages if state.rounds else {}
    settings = _settings_decoder.decode(state.settings)
    return Glance(
        status=state.status,
        round=len(state.rounds),
        num_rounds=settings.loop.num_rounds,
        loss=settings.train.loss.kind,
        stage=next((name for name, stage in newest.items() if stage.status == "running"), ""),
        rewards=tuple(mean for mean in means if mean is not None),
        created_t=state.created_t,
        reason=state.reason,
        obstacle=state.obstacle,
        settings_json=bytes(state.settings),
    )


def glance_of(state: RunState) -> Glance:
    """The same of a state that is known."""
    active = state.rounds[-1].active if state.rounds else None
    means = [_reward_mean(round) for round in state.rounds]
    num_begun = len(state.rounds)
    settings = state.settings_of(max(1, num_begun))
    return Glance(
        status=state.status,
        round=num_begun,
        num_rounds=state.settings_of(num_begun + 1).get("loop", {}).get("num_rounds"),
        loss=str(settings.get("train", {}).get("loss", {}).get("kind", "")),
        stage=active.stage if active is not None else "",
        rewards=tuple(mean for mean in means if mean is not None),
        created_t=state.created_t,
        reason=state.reason,
        obstacle=state.obstacle,
        settings_json=msgspec.json.encode(settings),
    )


def _whole_snapshot(run_dir: RunDir, journal_bytes: int) -> _State | None:
    """None where only the journal can tell, or the settings are not those of the beginning."""
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


def _reward_mean(round: RoundState) -> float | None:
    label = round.stages.get("label")
    mean = None if label is None else label.summary.get("reward_mean")
    return float(mean) if isinstance(mean, int | float) else None

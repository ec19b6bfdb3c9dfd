"""Makes a run that begins after a round of another one, and shares no file with it.

The round's checkpoint is copied and becomes the initial policy: round 1 samples from it, and the
reference `initial` and the KL to the initial policy mean it. The prompts are copied too, and the
new run goes on behind those that the old one took. This module also finds the round to begin after,
or says why there is none, and makes the new run's settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from halos_backend import atomic
from halos_backend.client import start
from halos_backend.config.changes import forget_defaults
from halos_backend.config.load import overridden_keys, parse_settings, resolve
from halos_backend.config.schema import RunSettings, TrainSettings
from halos_backend.errors import HalosError, SettingsError, UsageError
from halos_backend.events import ForkOrigin
from halos_backend.findings import RightInputs, refuse_inputs
from halos_backend.store.manifest import FileEntry, Manifest, find_damage, read_done
from halos_backend.store.prompt_order import round_size
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.jobs import takes_over_weights

HELD_OUT = {"held_out", "held_out_split", "num_held_out"}
"""Names settings of prompts on which no round trains."""
Report = Callable[[str, int, int], None]
"""Is called with what is being done, and how much of it is: (phase, done, total)."""

SOURCE = "the fork's settings"


def create_fork(
    root: Path,
    name: str,
    origin: Origin,
    settings: RunSettings,
    *,
    config_text: str,
    report: Report = lambda _phase, _done, _total: None,
) -> RunDir:
    """Copies what the new run begins with, checks it as a new run's inputs are, and makes the run.

    `settings` are resolved; their policy is replaced by the copy. Nothing is left behind on
    failure. Raises UsageError for wrong settings, a taken name or too full a disk, HalosError where
    the copy is not the round's checkpoint.
    """
    run_dir = RunDir(root / name)
    with start.new_run_dir(root, name) as unfinished:
        train = _copy_weights(origin, settings, unfinished, report)
        if has_same_prompts(origin, settings):
            _copy(origin.run_dir.prompts, unfinished.prompts)
            if _has_same_held_out(origin, settings):
                _copy(origin.run_dir.held_out, unfinished.held_out)
        prepared = start.prepare_inputs(
            unfinished,
            config_text,
            _with_policy(settings, unfinished),
            partial(report, "preparing prompts"),
            has_prompts=has_same_prompts(origin, settings),
        )
        inputs = refuse_inputs(prepared)
        if has_same_prompts(origin, settings):
            _check_prompts(origin, inputs)
            inputs = replace(inputs, num_too_long=origin.state.num_too_long)
        cursor = first_cursor(origin, settings)
        _check_prompts_are_left(settings, cursor, inputs.num_prompts, origin)
        made = _with_policy(settings, run_dir)
        start.write_resolved(unfinished, made)
        start.write_first_event(
            unfinished,
            name,
            made,
            inputs,
            first_cursor=cursor,
            forked_from=ForkOrigin(
                run=origin.state.run,
                path=str(origin.run_dir.path),
                round=origin.round.round,
                train=train,
            ),
        )
    return run_dir


def has_same_prompts(origin: Origin, settings: RunSettings) -> bool:
    """Says whether the old run's frozen prompts are those that `settings` would freeze."""
    now, before = settings, RunSettings.model_validate(origin.settings)
    return bool(
        now.prompts.model_dump(exclude=HELD_OUT) == before.prompts.model_dump(exclude=HELD_OUT)
        and now.policy.chat_template == before.policy.chat_template
    )


def _has_same_held_out(origin: Origin, settings: RunSettings) -> bool:
    now, before = settings.prompts, RunSettings.model_validate(origin.settings).prompts
    is_same = now.model_dump(include=HELD_OUT) == before.model_dump(include=HELD_OUT)
    return is_same and origin.run_dir.held_out.exists()


def first_cursor(origin: Origin, settings: RunSettings) -> int:
    """Returns where the new run begins in its prompts: behind those taken, if they have the same
    order.
    """
    same_order = settings.loop.seed == origin.settings["loop"]["seed"]
    return origin.next_cursor if same_order and has_same_prompts(origin, settings) else 0


def has_trainer_state(origin: Origin, settings: RunSettings) -> bool:
    """Says whether the round's fp32 weights and AdamW's moments are there, and of use to
    the fork.
    """
    before = origin.round.settings
    return (
        origin.attempt.trainer_state.is_dir()
        and takes_over_weights(TrainSettings.model_validate(before["train"]))
        and takes_over_weights(settings.train)
        and settings.policy.dtype == before["policy"]["dtype"]
    )


def _copy_weights(
    origin: Origin, settings: RunSettings, unfinished: RunDir, report: Report
) -> dict[str, Any] | None:
    """Copies checkpoint and trainer state; returns the train settings of the latter."""
    folders = [origin.attempt.checkpoint.name]
    if has_trainer_state(origin, settings):
        folders.append(origin.attempt.trainer_state.name)
    files = _files_to_copy(origin, folders)
    total = sum(file.bytes for file in files)
    free = shutil.disk_usage(unfinished.path).free
    if total > free:
        raise UsageError(
            f"copying round {origin.round.round} takes {total} bytes, and {free} are free on the"
            f" disk of {unfinished.path.parent}: free some"
        )
    done = 0
    for file in files:
        report("copying the checkpoint", done, total)
        _copy(origin.attempt.path / file.name, unfinished.initial.path / file.name)
        done += file.bytes
    report("copying the checkpoint", total, total)
    for folder in (unfinished.initial.path, *unfinished.initial.path.iterdir()):
        atomic.fsync_dir(folder)
    if damage := find_damage(unfinished.initial.path, Manifest(tuple(files), {}), full=True):
        raise HalosError(f"the copy of round {origin.round.round} is not what DONE says: {damage}")
    train: dict[str, Any] = origin.round.settings["train"]
    return train if len(folders) > 1 else None


def _files_to_copy(origin: Origin, folders: Sequence[str]) -> list[FileEntry]:
    """Returns the files to copy, as the attempt's manifest names them. Raises HalosError where it
    has none.
    """
    manifest = read_done(origin.attempt.path)
    if manifest is None:
        raise HalosError(f"{origin.attempt.done} cannot be read, so the checkpoint is not proven")
    return [file for file in manifest.files if file.name.partition("/")[0] in folders]


def _copy(source: Path, target: Path) -> None:
    """Makes a copy of its own, on disk. Raises HalosError naming what was to be written."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        shutil.copyfile(source, target)
        atomic.fsync_file(target)
    except FileNotFoundError as error:
        raise UsageError(f"{source} is gone: was it deleted meanwhile? Fork a later round") from (
            error
        )
    except OSError as error:
        raise HalosError(f"copying {source} to {target.parent} failed: {error.strerror}") from error


def _check_prompts(origin: Origin, inputs: RightInputs) -> None:
    if inputs.prompts_sha256 != origin.state.prompts_sha256:
        raise UsageError(
            f"{origin.run_dir.prompts} changed since {origin.state.run} was created: put it back,"
            " or start a new run"
        )


def _check_prompts_are_left(
    settings: RunSettings, cursor: int, num_prompts: int, origin: Origin
) -> None:
    loop = settings.loop
    if round_size(
        cursor=cursor,
        wanted=loop.prompts_per_round,
        num_prompts=num_prompts,
        num_epochs=loop.num_epochs,
        budget=loop.num_prompts,
    ):
        return
    if loop.num_prompts is not None and cursor >= loop.num_prompts:
        fix = f"raise loop.num_prompts = {loop.num_prompts}, which counts the old run's too"
    else:
        fix = f"--set loop.num_epochs={loop.num_epochs + 1} goes through them once more"
    raise UsageError(f"no prompts are left after round {origin.round.round}: {fix}")


def _with_policy(settings: RunSettings, run_dir: RunDir) -> dict[str, Any]:
    """Returns the settings as plain JSON, with the copy in that directory as policy."""
    plain = settings.model_dump(mode="json")
    plain["policy"]["path"] = str(run_dir.initial.checkpoint.absolute())
    return plain


@dataclass(frozen=True)
class Origin:
    """Is a finished round of a run, whose checkpoint is there."""

    run_dir: RunDir
    state: RunState
    round: RoundState

    @property
    def attempt(self) -> AttemptDir:
        """Returns the train attempt that left the checkpoint."""
        number = self.round.stages["train"].attempt
        return self.run_dir.attempt(self.round.round, "train", number)

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings that held, or would have held, for the round after it."""
        return self.state.settings_of(self.round.round + 1)

    @property
    def next_cursor(self) -> int:
        """Counts the prompts taken up to the end of the round."""
        return self.round.cursor + self.round.num_prompts


def find_origin(run_dir: RunDir, state: RunState, number: int) -> Origin:
    """Finds the round. Raises UsageError with the reason and the rounds that can be forked."""
    reason = _why_not(state, number)
    if reason is not None:
        raise UsageError(reason, fix=_what_can(state))
    origin = Origin(run_dir, state, state.rounds[number - 1])
    if not origin.attempt.checkpoint.is_dir():
        raise UsageError(f"{origin.attempt.checkpoint} is gone", fix=_what_can(state))
    if origin.round.settings["train"]["loss"]["kind"] == "bradley_terry":
        raise UsageError(
            f"the run {state.run} trains a reward model, not a policy: to go on with it,"
            " start a new run whose policy.path is that checkpoint"
        )
    return origin


def _why_not(state: RunState, number: int) -> str | None:
    if not 1 <= number <= state.num_rounds:
        return f"the run {state.run} has no round {number}"
    round = state.rounds[number - 1]
    if round.finished_t is None:
        return f"round {number} of {state.run} is not finished"
    if round.checkpoint is None:
        return f"round {number} of {state.run} left the policy as it was ({round.untrained})"
    if round.checkpoint in state.pruned:
        return (
            f"the checkpoint of round {number} of {state.run} was deleted once later ones were"
            " proven (loop.keep_checkpoints)"
        )
    return None


def _what_can(state: RunState) -> str:
    rounds = [str(number) for number, _ in state.checkpoints]
    return f"can be forked: {', '.join(rounds)}" if rounds else "none of its rounds can be forked"


def fork_settings(
    current: Mapping[str, Any], overrides: Sequence[str], *, directory: Path
) -> RunSettings:
    """Returns the resolved settings `current` with `KEY=VALUE` overrides; paths are those of
    `directory`.

    What is fixed for a run's life may differ in a new one, but for the policy, which the fork takes
    over. Raises SettingsError with everything that is wrong.
    """
    named = overridden_keys(overrides)
    if "policy.path" in named:
        reason = "a fork begins with the checkpoint of its round; for another policy: halos-tui run"
        raise SettingsError(SOURCE, [("policy.path", reason)])
    return resolve(
        parse_settings(
            forget_defaults(current, named),
            source=SOURCE,
            overrides=overrides,
            directory=directory,
        )
    )

"""Makes the job of a stage's next attempt from the state of the run."""

from __future__ import annotations

from halos_backend.config.consequences import reset_reason
from halos_backend.config.losses import LOSSES_WITH_REFERENCE
from halos_backend.config.schema import RunSettings, TrainSettings
from halos_backend.events import Stage
from halos_backend.store.job import Job, LabelInputs, SampleInputs, TrainInputs
from halos_backend.store.prompt_order import rounds_to_come
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.standard_error import compared_rounds, may_share_prompts
from halos_backend.store.state import RunState
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.processes.commands import num_stage_processes


def make_job(action: StartStage, state: RunState, settings: RunSettings, run_dir: RunDir) -> Job:
    """Makes a job with all that the attempt needs; every path in it is absolute."""
    round = state.rounds[action.round - 1]
    earlier = [
        str(run_dir.attempt(action.round, action.stage, attempt).path)
        for attempt in range(action.attempt - 1, 0, -1)
    ]
    threads = settings.launch.num_threads
    if threads is None:
        raise ValueError("settings are not resolved: launch.num_threads is empty")
    return Job(
        run=state.run,
        round=action.round,
        stage=action.stage,
        attempt=action.attempt,
        seed=settings.loop.seed,
        num_threads=threads,
        num_processes=num_stage_processes(action.stage, settings),
        settings=round.settings,
        inputs=_inputs(action.stage, round, state, settings, run_dir),
        earlier_attempts=tuple(earlier),
    )


def _inputs(
    stage: Stage, round: RoundState, state: RunState, settings: RunSettings, run_dir: RunDir
) -> SampleInputs | LabelInputs | TrainInputs:
    match stage:
        case "sample":
            version, path = _policy(round, state, settings, run_dir)
            return SampleInputs(
                policy=path,
                policy_version=version,
                prompts=str(run_dir.held_out if round.closing == "held_out" else run_dir.prompts),
                cursor=round.cursor,
                num_prompts=round.num_prompts,
                base=_initial(state, settings, run_dir),
                adapter=_adapter(round, state, settings, run_dir),
            )
        case "label":
            is_sampling = round.stages["sample"].status == "running"
            return LabelInputs(
                completions=str(_newest_attempt(round, "sample", run_dir).completions),
                num_growing=round.num_prompts if is_sampling else None,
                earlier_scores=_earlier_scores(round, state, run_dir),
                wants_feedback=round.closing is None,
            )
        case "train":
            return _train_inputs(round, state, settings, run_dir)


def _earlier_scores(round: RoundState, state: RunState, run_dir: RunDir) -> dict[str, str]:
    if round.closing == "held_out":  # whose ids may be those of other prompts of the run
        return {}
    return {
        str(earlier.round): str(_newest_attempt(earlier, "label", run_dir).scores)
        for earlier in compared_rounds(state.rounds[: round.round - 1])
        if may_share_prompts(earlier, round, num_prompts=state.num_prompts)
    }


def _train_inputs(
    round: RoundState, state: RunState, settings: RunSettings, run_dir: RunDir
) -> TrainInputs:
    _, total = rounds_to_come(
        cursor=round.cursor,
        rounds_done=round.round - 1,
        num_rounds=settings.loop.num_rounds,
        prompts_per_round=settings.loop.prompts_per_round,
        num_prompts=state.num_prompts,
        num_epochs=settings.loop.num_epochs,
        budget=settings.loop.num_prompts,
    )
    left = max(1, total - state.first_cursor)  # a fork's schedule spans its own prompts
    done = round.cursor - state.first_cursor
    trainer_state, reset_optimizer = _carried(round, state, run_dir)
    model = _model(round, state, settings, run_dir)
    steps = sum(
        earlier.train_summary.num_steps or 0
        for earlier in state.rounds[: round.round - 1]
        if earlier.checkpoint
    )
    return TrainInputs(
        model=model,
        initial=_initial(state, settings, run_dir),
        reference=_reference(settings, model, _initial(state, settings, run_dir)),
        feedback=str(_newest_attempt(round, "label", run_dir).feedback),
        completions=str(_newest_attempt(round, "sample", run_dir).completions),
        trainer_state=trainer_state,
        progress_start=min(1.0, done / left),
        progress_end=min(1.0, (done + round.num_prompts) / left),
        first_step=steps,
        reset_optimizer=reset_optimizer,
    )


def _carried(round: RoundState, state: RunState, run_dir: RunDir) -> tuple[str | None, str | None]:
    """Returns the trainer state that a round begins with, and why its moments are not carried."""
    now = _train_settings(round)
    if (before := _trained_before(round, state)) is not None:
        path = _newest_attempt(before, "train", run_dir).trainer_state
        return str(path), reset_reason(_train_settings(before), now)
    origin = state.forked_from
    if origin is None or origin.train is None or not takes_over_weights(now):
        return None, None
    before_fork = TrainSettings.model_validate(origin.train)
    return str(run_dir.initial.trainer_state), reset_reason(before_fork, now)


def takes_over_weights(train: TrainSettings) -> bool:
    """Says whether a fork can go on with the fp32 weights that its checkpoint was rounded from.

    Adapters apply to the initial policy's weights, which are another's then; a reward model is no
    policy.
    """
    return train.lora is None and train.loss.kind != "bradley_terry"


def _policy(
    round: RoundState, state: RunState, settings: RunSettings, run_dir: RunDir
) -> tuple[int, str]:
    """Returns version (the round that made it, 0 for the initial one) and path of what samples."""
    before = _trained_before(round, state)
    if before is None or settings.train.loss.kind == "bradley_terry":
        return 0, _initial(state, settings, run_dir)
    return before.round, str(_newest_attempt(before, "train", run_dir).checkpoint)


def _adapter(
    round: RoundState, state: RunState, settings: RunSettings, run_dir: RunDir
) -> str | None:
    """Returns the adapter of the policy that samples, where it was trained with any."""
    before = _trained_before(round, state)
    if before is None or settings.train.loss.kind == "bradley_terry":
        return None
    if _train_settings(before).lora is None:
        return None
    return str(_newest_attempt(before, "train", run_dir).adapter)


def _model(round: RoundState, state: RunState, settings: RunSettings, run_dir: RunDir) -> str:
    """Returns what is trained: the policy, or bradley_terry's reward model, of the round before."""
    before = _trained_before(round, state)
    if before is None:
        return _initial(state, settings, run_dir)
    return str(_newest_attempt(before, "train", run_dir).checkpoint)


def _initial(state: RunState, settings: RunSettings, run_dir: RunDir) -> str:
    """Returns the policy at the start of the run; that of a fork is in its own directory."""
    return settings.policy.path if state.forked_from is None else str(run_dir.initial.checkpoint)


def _reference(settings: RunSettings, model: str, initial: str) -> str | None:
    if settings.train.loss.kind not in LOSSES_WITH_REFERENCE:
        return None
    match settings.train.reference:
        case "initial":
            return initial
        case "previous":
            return model
        case path:
            return path


def _trained_before(round: RoundState, state: RunState) -> RoundState | None:
    """Returns the last round before this one that left a checkpoint."""
    earlier = state.rounds[: round.round - 1]
    return next((other for other in reversed(earlier) if other.checkpoint), None)


def _train_settings(round: RoundState) -> TrainSettings:
    return TrainSettings.model_validate(round.settings["train"])


def _newest_attempt(round: RoundState, stage: Stage, run_dir: RunDir) -> AttemptDir:
    return run_dir.attempt(round.round, stage, round.stages[stage].attempt)

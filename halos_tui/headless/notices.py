"""What is said on standard error about a followed run: how it ended, and what to do now."""

from __future__ import annotations

import shlex
import sys

from halos_backend.store.liveness import describe_stall
from halos_backend.store.reader import tail_lines
from halos_backend.store.run_dir import RunDir, default_runs_root
from halos_backend.store.state import RunState

from halos_tui.formatting import visible, visible_lines
from halos_tui.run.observed import Supervision

LOG_LINES = 10


def say(text: str) -> None:
    """A line (or several) on standard error."""
    print(visible_lines(text), file=sys.stderr, flush=True)  # noqa: T201


def command_for(run_dir: RunDir, verb: str, *arguments: str) -> str:
    """`halos-tui VERB RUN`, with --runs-dir where the run is not in the default place."""
    root = run_dir.path.parent
    is_default = root.resolve() == default_runs_root().resolve()
    elsewhere = [] if is_default else ["--runs-dir", str(root)]
    return shlex.join(["halos-tui", verb, run_dir.name, *arguments, *elsewhere])


def question(run_dir: RunDir) -> str:
    """What the first Ctrl-C asks."""
    return (
        "Ctrl-C again aborts the run for good; p stops it now so that it can be resumed"
        f" ({command_for(run_dir, 'resume')}); d detaches; anything else goes on"
    )


def say_detached(run_dir: RunDir) -> None:
    say(f"detached; the run goes on: {command_for(run_dir, 'watch')}")


def say_lost(run_dir: RunDir) -> None:
    """The supervisor is gone without a word in the journal."""
    say(f"{_gone(run_dir)}\ngo on with: {command_for(run_dir, 'resume')}")


def say_revival(run_dir: RunDir, number: int, most: int) -> None:
    """The supervisor is gone, and its owner's follower starts another."""
    counted = f" (revival {number} of {most} without progress)" if number > 1 else ""
    say(f"{_gone(run_dir)}\na new one takes the run up{counted}")


def say_taken_up(run_dir: RunDir) -> None:
    """A verb found a lost run, whose new supervisor goes on with it and answers."""
    say(f"the supervisor of {run_dir.name} was gone; a new one takes the run up")


def say_stall(run_dir: RunDir, supervision: Supervision) -> None:
    """The supervisor lives but says nothing, or does so again."""
    if supervision.supervisor is None or supervision.stalled_s is None:
        say(f"the supervisor of {run_dir.name} is no longer stalled")
    else:
        say(describe_stall(run_dir, supervision.supervisor, supervision.stalled_s))


def _gone(run_dir: RunDir) -> str:
    log = [f"  {visible(line)}" for line in tail_lines(run_dir.supervisor_log, LOG_LINES)]
    head = f"the supervisor of {run_dir.name} is gone; {run_dir.supervisor_log} ends with:"
    return "\n".join([head, *(log or ["  (nothing)"])])


def say_end(run_dir: RunDir, state: RunState) -> None:
    """How a run stopped, where its result is, what to do now."""
    name, resume = run_dir.name, command_for(run_dir, "resume")
    match state.status:
        case "completed":
            say(f"completed: {state.reason}{_result(run_dir, state)}")
        case "aborted":
            say(f"aborted{_result(run_dir, state)}")
        case "paused":
            say(f"run {name} is paused ({state.reason}); go on with: {resume}")
        case "failed":
            change = command_for(run_dir, "set", "KEY=VALUE")
            say(
                f"run {name} failed: {state.reason}\n{_logs(run_dir, state)}"
                f"once mended: {resume}; with other settings, before that: {change}"
            )
        case _:
            say_detached(run_dir)


def _result(run_dir: RunDir, state: RunState) -> str:
    if not any(round.checkpoint for round in state.rounds):
        return "; no round was trained, so there is no result"
    return f"\nresult: {run_dir.final}"


def _logs(run_dir: RunDir, state: RunState) -> str:
    """The end of the failed stage's output, and where the rest is."""
    for round in reversed(state.rounds):
        for stage in round.stages.values():
            if stage.status == "failed":
                log = run_dir.attempt(round.round, stage.stage, stage.attempt).log
                lines = [f"  {visible(line)}\n" for line in tail_lines(log, LOG_LINES)]
                where = ("--round", str(round.round))
                ends = f"its output ends with:\n{''.join(lines)}" if lines else ""
                return f"{ends}its output: {command_for(run_dir, 'logs', stage.stage, *where)}\n"
    return ""

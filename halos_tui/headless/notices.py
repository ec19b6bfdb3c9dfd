"""Says on standard error how a followed run goes and ended, and what to do now.

The doctor's findings become lines of text here too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from halos_backend.findings import Finding
from halos_backend.store import own_words
from halos_backend.store.liveness import describe_stall
from halos_backend.store.reader import tail_lines
from halos_backend.store.run_dir import RunDir, cache_root
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.standard_error import change_between, reward_of
from halos_backend.store.state import ENDED, RunState

from halos_tui.commands import as_called, command_for
from halos_tui.formatting import columns, visible, visible_lines
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Supervision

LOG_LINES = 10


def say(text: str) -> None:
    """Prints a line (or several) on standard error."""
    print(visible_lines(as_called(text)), file=sys.stderr, flush=True)  # noqa: T201


def read_own_marks(run_dir: RunDir) -> own_words.OwnMarks:
    """Returns the person's own marks on completions, and says what of them cannot be read."""
    marks = own_words.read_own_marks(run_dir)
    if marks.problem:
        say(f"left out: {marks.problem}")
    return marks


def question(run_dir: RunDir) -> str:
    """Returns what the first Ctrl-C asks."""
    lines = (
        "d  detach: the run goes on by itself",
        f"p  or Ctrl-C again: stop it now; go on later with: {command_for(run_dir, 'resume')}",
        "a  abort it for good",
        "anything else goes on here",
    )
    return "\n".join(lines)


def last_question(run_dir: RunDir) -> str:
    """Returns what a person is asked who chose to abort."""
    return f"{run_dir.name} could never go on again; type abort and Enter to end it for good:"


def say_detached(run_dir: RunDir) -> None:
    say(f"detached; the run goes on: {command_for(run_dir, 'watch')}")


def say_lost(run_dir: RunDir) -> None:
    """Says that the supervisor is gone without a word in the journal."""
    say(f"{_gone(run_dir)}\ngo on with: {command_for(run_dir, 'resume')}")


def say_revival(run_dir: RunDir, number: int, most: int) -> None:
    """Says that the supervisor is gone, and that its owner's follower starts another."""
    counted = f" (revival {number} of {most} without progress)" if number > 1 else ""
    say(f"{_gone(run_dir)}\na new one takes the run up{counted}")


def say_taken_up(run_dir: RunDir) -> None:
    """Says that a verb found a lost run, whose new supervisor goes on with it and answers."""
    say(f"the supervisor of {run_dir.name} was gone; a new one takes the run up")


def say_stall(run_dir: RunDir, supervision: Supervision) -> None:
    """Says that the supervisor lives but is silent, or that it speaks again."""
    if supervision.supervisor is None or supervision.stalled_s is None:
        say(f"the supervisor of {run_dir.name} is no longer stalled")
    else:
        say(describe_stall(run_dir, supervision.supervisor, supervision.stalled_s))


def _gone(run_dir: RunDir) -> str:
    log = [f"  {visible(line)}" for line in tail_lines(run_dir.supervisor_log, LOG_LINES)]
    head = f"the supervisor of {run_dir.name} is gone; {run_dir.supervisor_log} ends with:"
    return "\n".join([head, *(log or ["  (nothing)"])])


def say_end(run_dir: RunDir, state: RunState) -> None:
    """Says how a run stopped, where its result is, what to do now."""
    name, resume = run_dir.name, command_for(run_dir, "resume")
    match state.status:
        case "completed":
            say(f"completed: {state.reason}{_result(run_dir, state)}\n{next_steps(run_dir, state)}")
        case "aborted":
            say(f"aborted{_result(run_dir, state)}\n{next_steps(run_dir, state)}")
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


def say_how_it_stands(run_dir: RunDir, state: RunState, *, status: str) -> None:
    """Says what the app leaves behind."""
    if state.status in (*ENDED, "failed"):
        say_end(run_dir, state)
        return
    planned = planned_rounds(state)
    of = f" of {planned}" if planned else ""
    head = f"run {run_dir.name} is {status}, round {state.num_rounds}{of}"
    say(f"{head}\n{next_steps(run_dir, state)}")


def next_steps(run_dir: RunDir, state: RunState) -> str:
    """Returns three commands to try next, as they are typed."""
    attach = (command_for(run_dir, "attach"), "charts and logs")
    says = (command_for(run_dir, "completions"), "what the policy says")
    match state.status:
        case "completed" if _is_demo(state):
            steps = [says, attach, (as_called("halos-tui init --help"), "a run of your own")]
        case "completed":
            more = command_for(run_dir, "extend", "--rounds", "1")
            steps = [says, attach, (more, "one more round")]
        case "aborted":
            steps = [says, attach, (command_for(run_dir, "rm"), "delete it")]
        case "paused":
            resume = (command_for(run_dir, "resume"), "go on at the exact stage")
            steps = [resume, attach, (command_for(run_dir, "abort"), "end it for good")]
        case _:
            watch = (command_for(run_dir, "watch"), "follow it without the app")
            steps = [attach, watch, (command_for(run_dir, "pause"), "stop at the end of a round")]
    width = max(len(command) for command, _ in steps)
    return "\n".join(["next:", *(f"  {command:{width}}   {what}" for command, what in steps)])


def _is_demo(state: RunState) -> bool:
    policy = str(state.settings.get("policy", {}).get("path", ""))
    return Path(policy).is_relative_to(cache_root())


def _result(run_dir: RunDir, state: RunState) -> str:
    """Says what was reached, and where it is."""
    if not any(round.checkpoint for round in state.rounds):
        return "; no round was trained, so there is no result"
    return f"{_worth(run_dir, state)}\nresult: {run_dir.final}"


def _worth(run_dir: RunDir, state: RunState) -> str:
    """Says what the result is worth, where it was scored; else what is known of earlier
    policies.
    """
    if state.closing is not None and state.closing.unscored:
        return f"\nonce mended, to score it: {command_for(run_dir, 'retry')}"
    if score := rounds.final_score(state):
        return f"\n{score}"
    begun = state.rounds[: state.num_rounds]
    rewards = [reward for round in begun if (reward := reward_of(round)) is not None]
    if len(rewards) < 2:
        return ""
    first, last = rewards[0], rewards[-1]
    change = rounds.reward_change_in_words(change_between(first, last))
    return (
        f"\nmean reward before the training of rounds {first.round} and {last.round}:"
        f" {rounds.describe_reward(first)} and {rounds.describe_reward(last)} ({change})"
    )


def _logs(run_dir: RunDir, state: RunState) -> str:
    """Returns the end of the failed stage's output, and where the rest is."""
    for round in reversed(state.rounds):
        for stage in round.stages.values():
            if stage.status == "failed":
                log = run_dir.attempt(round.round, stage.stage, stage.attempt).log
                lines = [f"  {visible(line)}\n" for line in tail_lines(log, LOG_LINES)]
                where = ("--round", str(round.round))
                ends = f"its output ends with:\n{''.join(lines)}" if lines else ""
                return f"{ends}its output: {command_for(run_dir, 'logs', stage.stage, *where)}\n"
    return ""


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Returns an aligned table; below a finding that is not well, it says what to do now."""
    rows = [
        [finding.level, visible(finding.subject), visible(finding.text)] for finding in findings
    ]
    table = columns(("level", "subject", "finding"), rows)
    lines = []
    for finding, row in zip(findings, table[1:], strict=True):
        lines.append(row)
        if finding.fix:
            lines.append(f"{'':8} -> {visible(as_called(finding.fix))}")
    return lines

"""Says what the actions on runs come to as the runs stand: which do something, and in which order.

It is pure. Whether a run grants a request is decided by `store.request_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halos_backend.store.request_rules import Standing, refusal
from halos_backend.store.requests import Abort, Extend, Pause, Request, Resume, Retry, Set
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import AT_REST

from halos_tui.tracking.status import SeenStatus

REQUESTS: Mapping[str, Request] = {
    "abort": Abort(request_id=""),
    "retry": Retry(request_id=""),
    "extend": Extend(request_id="", num_rounds=1),
    "tweak": Set(request_id="", assignments=()),
}
ASKED = ("pause", "abort", "retry", "extend", "delete")
"""These actions look at the runs again before they ask, and then say why that cannot be."""
OF_LIST = ("open", "select", "select_all", "sort", "reverse", "own_words", "delete")
"""These do something even with a run that cannot be read."""
OF_RUNS = frozenset(
    {*ASKED, *OF_LIST, "tweak", "fork", "completions", "metrics", "logs", "changes"}
)
OF_ONE_RUN = ("tweak", "fork", "completions", "logs", "changes")
GOES_ON = ("Resume", "Go on at the exact stage")

WATCHED = ("completions", "metrics", "pause", "tweak", "logs")
FIRST: Mapping[str, tuple[str, ...]] = {
    "paused": ("pause", "tweak", "completions", "metrics"),
    "failed": ("retry", "logs", "tweak", "pause"),
    "lost": ("pause", "logs"),
    "stalled": ("logs", "metrics"),
    "completed": ("completions", "metrics", "extend", "fork"),
    "aborted": ("completions", "metrics", "fork"),
    "several": ("metrics", "pause", "abort", "retry", "extend"),
}
"""What a person does next with a run of that status; with one at work it is WATCHED."""


@dataclass(frozen=True)
class SeenRun:
    """This is a run as a screen has last read it; one that cannot be read has no standing."""

    run_dir: RunDir
    status: SeenStatus | None = None
    standing: Standing | None = None


def why_not(action: str, runs: Sequence[SeenRun]) -> str:
    """Says why an action does nothing with these runs; "" where it does something with any."""
    if action not in OF_RUNS:
        return ""
    if not runs:
        return "there is no run here"
    if action in OF_ONE_RUN and len(runs) > 1:
        return f"that is for one run at a time, and {len(runs)} are selected"
    reasons = [_why_not(action, run) for run in runs]
    return "" if "" in reasons else reasons[0]


def first_actions(runs: Sequence[SeenRun]) -> Sequence[str]:
    """Returns what a person does first with these runs, in this order."""
    if len(runs) != 1:
        return FIRST["several"] if runs else ()
    return FIRST.get(runs[0].status or "", WATCHED)


def goes_on(runs: Sequence[SeenRun]) -> bool:
    """Says whether pausing means to go on: nothing of these is at work, and something can be."""
    is_at_work = any(_works(run) for run in runs)
    return not is_at_work and bool(runs) and not why_not("pause", runs)


def _why_not(action: str, run: SeenRun) -> str:
    standing = run.standing
    if standing is None:
        return "" if action in OF_LIST else f"the run {run.run_dir.name} cannot be read"
    match action:
        case "pause":
            return (
                "" if _works(run) or run.status == "lost" else _refused(_resume_or_pause(run), run)
            )
        case "abort" if run.status == "lost":
            return ""
        case "delete" if standing.status not in (*AT_REST, "created"):
            stop = command_for(run.run_dir, "abort")
            return f"the run {run.run_dir.name} is {run.status}: {stop} comes first"
        case "fork" if not standing.has_checkpoint:
            return f"no round of the run {run.run_dir.name} has a checkpoint yet"
        case "completions" if not standing.has_samples:
            return f"the run {run.run_dir.name} has sampled nothing yet"
        case "metrics" | "logs" if not standing.num_rounds:
            return f"no round of the run {run.run_dir.name} has begun yet"
    return _refused(REQUESTS[action], run) if action in REQUESTS else ""


def _works(run: SeenRun) -> bool:
    """Says whether the run is at work, so that it can be paused, or paused sooner."""
    is_begun = run.standing is not None and run.standing.status in ("created", "running", "pausing")
    return is_begun and run.status != "lost"


def _resume_or_pause(run: SeenRun) -> Request:
    is_aborting = run.standing is not None and run.standing.status == "aborting"
    return Pause(request_id="") if is_aborting else Resume(request_id="")


def _refused(request: Request, run: SeenRun) -> str:
    assert run.standing is not None
    refused = refusal(request, run.standing, run.run_dir, status=run.status or "")
    return "" if refused is None else str(refused)

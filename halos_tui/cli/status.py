"""This verb is `status`: it takes one look at one run."""

from __future__ import annotations

import sys

import msgspec
from halos_backend.store.liveness import describe_stall
from halos_backend.store.own_words import words_or_problem
from halos_backend.store.registry import check_readable
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.state import AT_WORK, RunState

from halos_tui.cli.options import Json, RunName, RunsDir, runs_root
from halos_tui.commands import command_for
from halos_tui.formatting import columns, count, date_time, rate, visible
from halos_tui.tracking import rounds
from halos_tui.tracking.attempt_tail import foresee
from halos_tui.tracking.eta import Forecast, describe
from halos_tui.tracking.status import Observation, as_json, describe_workers, observe


def command(run: RunName, json: Json = False, runs_dir: RunsDir = None) -> None:
    """Show how a run stands.

    Status, rounds, how far the running stage is, and how long it all still takes; `lost` when
    nobody supervises it any more.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    seen = observe(run_dir)
    check_readable(seen.state, run_dir)
    ahead = foresee(run_dir, seen.state) if seen.status != "lost" else Forecast({})
    if json:
        sys.stdout.write(msgspec.json.encode(as_json(seen, run_dir, ahead)).decode() + "\n")
    else:
        lines = _text(seen, run_dir, ahead)
        sys.stdout.write("\n".join(visible(line) for line in lines) + "\n")


def _text(seen: Observation, run_dir: RunDir, ahead: Forecast) -> list[str]:
    state = seen.state
    planned = planned_rounds(state)
    where = f" {rounds.boundary(state)}" if seen.status in ("pausing", "aborting") else ""
    reason = f": {state.reason}" if state.reason else ""
    lines = [
        f"{state.run}  {seen.status}{where.rstrip()}{reason}",
        f"started {date_time(state.created_t)}, last event {date_time(state.updated_t)},"
        f" round {state.num_rounds}{f' of {planned}' if planned else ''},"
        f" {rounds.prompts_taken(state.cursor, state.num_prompts)}",
        str(run_dir.path),
    ]
    lines[1:1] = _own_words(run_dir)
    etas = {"round": ahead.round, "run": ahead.run}
    if told := [f"{name} {describe(eta)}" for name, eta in etas.items() if eta is not None]:
        lines.insert(-1, f"ETA {', '.join(told)}")
    if state.rounds:
        table = columns(rounds.HEADER, rounds.table(state), right=" ".join(rounds.HEADER))
        lines += ["", f"({rounds.REWARD_NOTE})", *table]
        told = [_about_cut_off(state), _about_judge(state), rounds.final_score(state)]
        lines += filter(None, told)
    for (round, stage), live in seen.live.items():
        lines += ["", f"{rounds.place(state, round)} {stage}: {live.phase}"]
        if live.total:
            lines[-1] += (
                f", {count(live.done)}/{count(live.total)} {live.unit},"
                f" {rate(live.rate, live.unit)}, ETA {describe(ahead.stages.get((round, stage)))}"
            )
        lines += [f"warning: {text}" for text in live.warnings]
    if waiting := rounds.pending_changes(state):
        lines += ["", *(rounds.describe_change(change) for change in waiting)]
    if state.status in AT_WORK and (about := _about_workers(state)):
        lines += ["", about]
    if state.status in AT_WORK and state.obstacle:
        lines += ["", f"in its way: {state.obstacle}"]
    if seen.status == "lost":
        lines += ["", f"nobody supervises it; go on with: {command_for(run_dir, 'resume')}"]
    if seen.supervisor is not None and seen.supervision.stalled_s is not None:
        lines += ["", describe_stall(run_dir, seen.supervisor, seen.supervision.stalled_s)]
    return lines


def _own_words(run_dir: RunDir) -> list[str]:
    """Returns title and tags, and the note, where a person wrote any."""
    words, problem = words_or_problem(run_dir)
    first = "  ".join(filter(None, (words.title, " ".join(words.tags))))
    return [line for line in (first, words.note, problem) if line]


def _about_workers(state: RunState) -> str:
    """Says which programs stay, or why none does, where the run decides that itself."""
    settings = state.settings_of(state.round_at_hand)
    if settings["launch"].get("warm_workers", "auto") != "auto" or state.workers is None:
        return ""
    if state.is_crowded:
        return "each stage has the memory to itself, for one did not find enough beside the others"
    return describe_workers(state.workers)


def _about_judge(state: RunState) -> str:
    """Says what the judge of the newest labelled round took, where it is behind an API."""
    labelled = (r for r in reversed(state.rounds) if r.label_summary.num_completions is not None)
    newest = next(labelled, None)
    about = "" if newest is None else rounds.about_judge(newest.label_summary)
    return f"{rounds.place(state, newest.round)}: {about}" if newest and about else ""


def _about_cut_off(state: RunState) -> str:
    """Says how many completions of the newest labelled round were cut off, and what became of
    them.
    """
    for round in reversed(state.rounds):
        label = round.label_summary
        if label.num_cut_off:
            done = rounds.about_cut_off(label) or f"{count(label.num_cut_off)} cut off"
            return f"{rounds.place(state, round.round)}: {done} of {count(label.num_completions)}"
        if label.num_completions is not None:
            return ""
    return ""

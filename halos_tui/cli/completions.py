"""This verb is `completions`: it shows what the policy said in a round, and how it was rewarded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
import typer
from halos_backend.records import Message, text_of
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import find_run

from halos_tui.cli.options import Json, Round, RunName, RunsDir, runs_root
from halos_tui.completions.round_rows import RoundRows, num_tokens, pick_round, sampled_rounds
from halos_tui.formatting import number, plural, visible, visible_lines
from halos_tui.tracking.rounds import FINAL

SHOWN = 20
"""So many completions are shown as text unless --limit says otherwise; --json has all."""

Order = Literal["reward", "length"]


def command(
    run: RunName,
    round: Round = None,
    sort: Annotated[
        Order | None, typer.Option(help="Best or longest first; by default as sampled.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Completions at most: {SHOWN}, with --json all.")
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show a round's completions with their rewards.

    It also shows which of them the feedback chose and rejected.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    state = check_readable(load_state(run_dir), run_dir)
    source = pick_round(sampled_rounds(run_dir, state), round, run=run_dir.name)
    rows: Iterable[dict[str, Any]] = _rows(source)
    if sort is not None:
        key = {"reward": "reward", "length": "num_tokens"}[sort]
        # rows without a value come last, equal ones as they were sampled
        rows = sorted(rows, key=lambda row: (row[key] is None, -(row[key] or 0)))
    if json:
        for row in islice(rows, limit):
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    else:
        _print(rows, limit or SHOWN, source=source, is_sorted=sort is not None)


def _rows(source: RoundRows) -> Iterator[dict[str, Any]]:
    marks = source.marks()
    for group in source.groups():
        for completion in group.completions:
            yield {
                "round": source.round.round,
                "prompt_id": group.prompt_id,
                "completion_id": completion.completion_id,
                "reward": completion.reward,
                "unscored": completion.unscored,
                "penalty": completion.penalty,
                "mark": marks.get((group.prompt_id, completion.completion_id)),
                "finish_reason": completion.finish_reason,
                "num_tokens": num_tokens(completion),
                "prompt": msgspec.to_builtins(group.prompt),
                "text": completion.text,
            }


def _print(
    rows: Iterable[dict[str, Any]], limit: int, *, source: RoundRows, is_sorted: bool
) -> None:
    """Prints text: a prompt once above its completions, unless they are sorted."""
    shown = left_out = 0
    last: str | None = None
    for row in rows:
        if shown == limit:
            left_out += 1
            continue
        shown += 1
        if is_sorted or row["prompt_id"] != last:
            last = row["prompt_id"]
            said = _last_user_message(row["prompt"])
            sys.stdout.write(f"\nprompt {visible(row['prompt_id'])}: {visible(said)}\n")
        sys.stdout.write(f"  {_verdict(row)}\n{_indented(row['text'])}\n")
    print(  # noqa: T201
        f"{_whose(source.round)}: {plural(shown, 'completion')}"
        + (f", {left_out} more: --limit {shown + left_out}" if left_out else ""),
        file=sys.stderr,
    )


def _whose(round: RoundState) -> str:
    """Says whose completions these are: those of the policy before the round's training."""
    if round.closing is not None:
        return FINAL
    return f"round {round.round}, by the policy before its training"


def _verdict(row: dict[str, Any]) -> str:
    parts = [
        f"unscored ({visible(row['unscored'])})"
        if row["unscored"] is not None
        else f"reward {number(row['reward'])}",
        plural(row["num_tokens"], "token"),
    ]
    if row["finish_reason"] == "length":
        penalty = row["penalty"]
        parts.append("cut off" if penalty is None else f"cut off: {number(-penalty)} in training")
    mark = f"  {row['mark'].upper()}" if row["mark"] else ""
    return f"[{', '.join(parts)}]{mark}"


def _last_user_message(prompt: list[Message]) -> str:
    users = [turn for turn in prompt if turn["role"] == "user"]
    return text_of(users[-1] if users else prompt[-1])


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in visible_lines(text).split("\n"))

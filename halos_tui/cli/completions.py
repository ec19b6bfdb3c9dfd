"""This verb is `completions`: it shows what the policy said in a round, and how it was rewarded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from threading import Event
from typing import Annotated, Any, Literal

import msgspec
import typer
from halos_backend.errors import CorruptFileError
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import find_run

from halos_tui.cli.options import Json, Round, RunName, RunsDir, runs_root
from halos_tui.completions.index import CompletionsIndex
from halos_tui.completions.query import EVERYTHING, CompletionQuery, read_filter
from halos_tui.completions.round_rows import (
    Marks,
    last_user_message,
    num_tokens,
    pick_round,
    sampled_rounds,
)
from halos_tui.formatting import number, plural, visible, visible_lines
from halos_tui.headless.notices import read_own_marks
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
    filter: Annotated[
        str,
        typer.Option(
            metavar="TERMS",
            help="What fits: words, reward<0 len>200 round:3 chosen: text~pattern; docs/app.md has"
            " all. With round: it is of all rounds.",
        ),
    ] = "",
    json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show a round's completions with their rewards.

    It also shows which of them the feedback chose and rejected.
    """
    wanted = read_filter(filter) or EVERYTHING
    run_dir = find_run(runs_root(runs_dir), run)
    state = check_readable(load_state(run_dir), run_dir)
    source = pick_round(sampled_rounds(run_dir, state), round, run=run_dir.name)
    is_one = round is not None or not wanted.is_about_rounds
    rounds = frozenset({source.round.round}) if is_one else None
    index = CompletionsIndex(run_dir)
    for _ in index.update(state, Event(), rounds):
        pass
    index.own_marks = read_own_marks(run_dir)
    keys = _selected(index, CompletionQuery(rounds, wanted, sort or "sampled"))
    if json:
        for row in _rows(index, keys[:limit]):
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        return
    shown = limit or SHOWN
    _print(_rows(index, keys[:shown]), is_sorted=sort is not None, is_one_round=is_one)
    _say_how_many(len(keys), shown, source.round if is_one else None)


def _selected(index: CompletionsIndex, query: CompletionQuery) -> Sequence[int]:
    """Returns keys in order. Raises CorruptFileError for a file that cannot be read wholly."""
    *_, found = index.select(query, Event())
    if index.problems:
        raise CorruptFileError(index.problems[0])
    return found.keys


def _rows(index: CompletionsIndex, keys: Sequence[int]) -> Iterator[dict[str, Any]]:
    @cache
    def marks_of(round: int) -> Marks:
        return index.marks(round, Event())

    for row in map(index.row, keys):
        assert row is not None
        group = index.group(row.round, row.position)
        completion = group.completions[row.index]
        own = index.own_marks.on(row.round, group.prompt_id, completion.completion_id)
        yield {
            "round": row.round,
            "prompt_id": group.prompt_id,
            "completion_id": completion.completion_id,
            "reward": completion.reward,
            "unscored": completion.unscored,
            "penalty": completion.penalty,
            "components": completion.components,
            "mark": marks_of(row.round).get((group.prompt_id, completion.completion_id)),
            "marked": own.is_marked,
            "note": own.note or None,
            "finish_reason": completion.finish_reason,
            "num_tokens": num_tokens(completion),
            "prompt": msgspec.to_builtins(group.prompt),
            "text": completion.text,
        }


def _print(rows: Iterator[dict[str, Any]], *, is_sorted: bool, is_one_round: bool) -> None:
    """Prints text: a prompt once above its completions, unless they are sorted."""
    last: tuple[int, str] | None = None
    for row in rows:
        of = (row["round"], row["prompt_id"])
        if is_sorted or of != last:
            said = last_user_message(row["prompt"])
            place = "" if is_one_round else f"round {row['round']}, "
            sys.stdout.write(f"\n{place}prompt {visible(row['prompt_id'])}: {visible(said)}\n")
        last = of
        note = f"  note: {visible(row['note'])}\n" if row["note"] else ""
        sys.stdout.write(f"  {_verdict(row)}\n{note}{_indented(row['text'])}\n")


def _say_how_many(number: int, limit: int, round: RoundState | None) -> None:
    left_out = number - min(number, limit)
    whose = "all rounds" if round is None else _whose(round)
    print(  # noqa: T201
        f"{whose}: {plural(number - left_out, 'completion')}"
        + (f", {left_out} more: --limit {number}" if left_out else ""),
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
    return f"[{', '.join(parts)}]{mark}{'  MARKED' * row['marked']}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in visible_lines(text).split("\n"))

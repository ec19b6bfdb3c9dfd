"""Reads what the policy says: to a prompt in the first round and in the newest, and at its best and
worst there.

The scores of a round never change once it is labelled. They are passed over once, at most
`PASS_BYTES` at each `read`; the pass keeps where the first groups are, and where the best and the
worst completion is. Only the texts that are shown are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import msgspec
from halos_backend.records import BAD_JSON, Message, text_of
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.completions.round_rows import RoundRows
from halos_tui.run.view import Said, SaysView
from halos_tui.tracking.rounds import place

PASS_BYTES = 8 << 20
"""A pass over 100 MB takes a dozen reads, a second apart; each takes about 20 ms."""
MOST_PROMPTS = 1000
"""So many prompts of a round can be chosen; best and worst are of all."""
MOST_CHARACTERS = 2000
"""Of a longer text only the beginning is shown."""

Place = tuple[int, int]
"""It says where a completion is: the place of its group's line, and its index in the group."""


class Says:
    """`view` is as of the last `read`. `number` is the prompt's, and may be set by any thread."""

    def __init__(self, run_dir: RunDir) -> None:
        self.number = 0
        self.view = SaysView()
        self._run_dir = run_dir
        self._first: _Pass | None = None
        self._newest: _Pass | None = None
        self._drawn: tuple[object, ...] | None = None

    @property
    def is_due(self) -> bool:
        """Says whether a person has chosen another prompt since the last `read`."""
        return self._drawn is not None and self._drawn[0] != self.number

    def read(self) -> None:
        """Goes on with the passes, and decodes what is new to be shown."""
        passes = dict.fromkeys(one for one in (self._first, self._newest) if one is not None)
        for scores in passes:
            scores.go_on()
        about = (self.number, *((one, one.num_bytes_read, one.is_whole) for one in passes))
        if about != self._drawn:
            self._drawn = about
            self.view = self._shown()

    def turn_to(self, state: RunState) -> None:
        """Turns to the first and the newest scored round.

        A state forgets the files of its old rounds, so this is called before it does.
        """
        scored = [rows for round in state.rounds if (rows := _scored(self._run_dir, round))]
        if not scored:
            return
        if self._is_before(scored[0].round):
            self._first = self._pass_of(state, scored[0], self._first)
        newest = next((rows for rows in reversed(scored) if rows.groups_path.is_file()), None)
        if newest is not None:
            self._newest = self._pass_of(state, newest, self._newest)

    def _is_before(self, round: RoundState) -> bool:
        """Says whether no earlier round is known."""
        return self._first is None or round.round <= self._first.round

    def _pass_of(self, state: RunState, rows: RoundRows, before: _Pass | None) -> _Pass:
        path = rows.groups_path
        for known in (before, self._first, self._newest):
            if known is not None and known.path == path:
                return known
        number, is_held_out = rows.round.round, rows.round.closing == "held_out"
        return _Pass(path, number, place(state, number), is_held_out=is_held_out)

    def _shown(self) -> SaysView:
        first, newest = self._first, self._newest
        if newest is None or not newest.prompts:
            return SaysView()
        chosen = _in_order(newest, first)
        prompt_id = chosen[self.number % len(chosen)]
        now, then, is_same = newest.said((newest.prompts[prompt_id], 0), newest.name), None, False
        if first is not None and first is not newest:
            is_same = prompt_id in _shared(newest, first)
            then = first.said(
                first.place_of(prompt_id if is_same else None, self.number), first.name
            )
        return SaysView(
            round=newest.round,
            prompt_id=prompt_id,
            number=self.number % len(chosen) + 1,
            num_prompts=newest.num_groups,
            is_same_prompt=is_same and then is not None,
            first=then,
            now=now,
            best=newest.said(newest.best, "best"),
            worst=newest.said(newest.worst, "worst") if newest.worst != newest.best else None,
        )


class _Reward(msgspec.Struct):
    reward: float | None = None


class _Rewards(msgspec.Struct):
    prompt_id: str
    completions: tuple[_Reward, ...]


class _Text(msgspec.Struct):
    text: str
    reward: float | None = None


class _Texts(msgspec.Struct):
    prompt: tuple[Message, ...]
    completions: tuple[_Text, ...]


_rewards_decoder = msgspec.json.Decoder(_Rewards)
_texts_decoder = msgspec.json.Decoder(_Texts)


class _Pass:
    """Passes over the scored groups of one round. A line that is no group is left out: the
    completions screen names it.
    """

    def __init__(self, path: Path, round: int, name: str, *, is_held_out: bool) -> None:
        self.path, self.round, self.name = path, round, name
        self.is_held_out = is_held_out
        self.prompts: dict[str, int] = {}
        """It has the place of each group's line, in the order of the file."""
        self.num_groups = 0
        self.num_bytes_read = 0
        self._best: tuple[float, Place] | None = None
        self._worst: tuple[float, Place] | None = None
        self.is_whole = False

    @property
    def best(self) -> Place | None:
        """Returns None until all of the file is read."""
        return self._best[1] if self._best and self.is_whole else None

    @property
    def worst(self) -> Place | None:
        return self._worst[1] if self._worst and self.is_whole else None

    def go_on(self) -> None:
        """Reads on, for a while."""
        if self.is_whole:
            return
        end = self.num_bytes_read + PASS_BYTES
        try:
            with self.path.open("rb") as file:
                file.seek(self.num_bytes_read)
                for line in file:
                    self._take(line)
                    if self.num_bytes_read >= end:
                        return
        except OSError:
            pass  # the file is gone: what is known of it is all there is
        self.is_whole = True

    def place_of(self, prompt_id: str | None, number: int) -> Place | None:
        """Returns the first completion of that prompt; without one of the prompt of that number."""
        if not self.prompts:
            return None
        start = None if prompt_id is None else self.prompts[prompt_id]
        if start is None:
            number %= len(self.prompts)
            start = next(islice(self.prompts.values(), number, None))
        return start, 0

    def said(self, place: Place | None, what: str) -> Said | None:
        """Decodes one completion with its prompt; None where it cannot be read."""
        if place is None:
            return None
        start, index = place
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                group = _texts_decoder.decode(file.readline())
        except (OSError, *BAD_JSON):
            return None
        completion = group.completions[index]
        asked = text_of(group.prompt[-1]) if group.prompt else ""
        return Said(
            what, asked[:MOST_CHARACTERS], completion.text[:MOST_CHARACTERS], completion.reward
        )

    def _take(self, line: bytes) -> None:
        start = self.num_bytes_read
        self.num_bytes_read += len(line)
        try:
            group = _rewards_decoder.decode(line)
        except BAD_JSON:
            return
        if not group.completions:
            return
        self.num_groups += 1
        if len(self.prompts) < MOST_PROMPTS:
            self.prompts.setdefault(group.prompt_id, start)
        for index, completion in enumerate(group.completions):
            if (reward := completion.reward) is None:
                continue
            if self._best is None or reward > self._best[0]:
                self._best = (reward, (start, index))
            if self._worst is None or reward < self._worst[0]:
                self._worst = (reward, (start, index))


def _scored(run_dir: RunDir, round: RoundState) -> RoundRows | None:
    rows = RoundRows(run_dir, round)
    return rows if rows.is_scored else None


def _shared(newest: _Pass, first: _Pass) -> Mapping[str, int]:
    """Returns the prompts of the first round that may come again: held-out ones have ids of their
    own, which may be the same.
    """
    return first.prompts if newest.is_held_out == first.is_held_out else {}


def _in_order(newest: _Pass, first: _Pass | None) -> list[str]:
    """Returns the newest round's prompts, those that the first round has too before the others."""
    known = {} if first is None else _shared(newest, first)
    return sorted(newest.prompts, key=lambda prompt_id: prompt_id not in known)

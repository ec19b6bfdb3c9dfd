"""Compares the runs that are selected in the list, and shows as a table what differs.

Runs have prompts of their own as far as anybody knows, so that the errors of their rewards are
independent: where they share prompts, the difference is at least as sure as it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from halos_backend.settings_json import diff, value_at
from halos_backend.store.run_dir import RunDir
from halos_backend.store.standard_error import Reward, RewardChange, change_between
from rich.cells import cell_len, set_cell_size

from halos_tui.charts.series import MAX_STYLE, Series
from halos_tui.formatting import ABSENT, measured_in_ascii, plural, setting, visible
from halos_tui.runs.reader import RunRow
from halos_tui.tracking.rounds import FINAL, describe_reward, describe_reward_change
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import GAP, Line, Panel

MOST_RUNS = 12
"""So many runs are compared; no terminal has columns for more."""


@dataclass(frozen=True)
class ComparedRun:
    """This is a column. `of` says whose the reward is, and `more` what it is more than that of the
    run named `base`, where both are of the same.
    """

    name: str
    status: str
    round: str
    reward: Reward | None
    of: str
    more: RewardChange | None


@dataclass(frozen=True)
class Comparison:
    """Has a value for each run and each setting that differs, and mean rewards by round of as many
    runs as have a style; `run_dirs` are all that were asked for.
    """

    run_dirs: tuple[RunDir, ...]
    base: str
    runs: tuple[ComparedRun, ...]
    settings: tuple[tuple[str, tuple[str, ...]], ...]
    curves: tuple[Series, ...] = ()


def compare_runs(rows: Sequence[RunRow]) -> Comparison:
    """Compares the first of these runs with each other."""
    shown = rows[:MOST_RUNS]
    base = next((row for row in shown if _reward(row)), shown[0])
    return Comparison(
        tuple(row.run_dir for row in rows),
        base.name,
        tuple(_compared(row, base) for row in shown),
        tuple(_settings_that_differ(shown)),
        tuple(_curves(shown[:MAX_STYLE])),
    )


def _curves(rows: Sequence[RunRow]) -> Iterator[Series]:
    for style, row in enumerate(rows, 1):
        if row.summary is not None and row.summary.rewards:
            rounds, rewards = row.summary.reward_rounds, row.summary.rewards
            yield Series(visible(row.name), rounds, rewards, style_index=style)


def _compared(row: RunRow, base: RunRow) -> ComparedRun:
    planned = f" of {row.num_rounds}" if row.num_rounds else ""
    ours, theirs = _reward(row), _reward(base)
    is_same = row is not base and _whose(row) == _whose(base)
    return ComparedRun(
        name=row.name,
        status=row.status,
        round=f"{row.round}{planned}" if row.summary else "",
        reward=ours,
        of=_whose(row),
        more=change_between(theirs, ours) if ours and theirs and is_same else None,
    )


def _reward(row: RunRow) -> Reward | None:
    return None if row.summary is None else row.summary.reward


def _whose(row: RunRow) -> str:
    """Says whose the last reward is: that of the result, or of a policy on the way to it."""
    reward = _reward(row)
    if reward is None:
        return ""
    return FINAL if reward.round > row.round else "last round"


def _settings_that_differ(rows: Sequence[RunRow]) -> list[tuple[str, tuple[str, ...]]]:
    known = [row.summary.settings for row in rows if row.summary is not None]
    paths = dict.fromkeys(path for other in known[1:] for path in diff(known[0], other))
    return [
        (path, tuple("" if row.summary is None else _value(path, row) for row in rows))
        for path in paths
    ]


def _value(path: str, row: RunRow) -> str:
    """Writes a setting; a table that is of another kind elsewhere is named by its kind."""
    found = value_at(path, None if row.summary is None else row.summary.settings)
    if isinstance(found, Mapping) and "kind" in found:
        others = {key: value for key, value in found.items() if key != "kind"}
        return f"{found['kind']} {setting(others)}"
    return setting(found)


MOST_CELL = 32
MORE_STYLES = {-1: "bad", 0: "muted", 1: "good"}
Table = list[tuple[str, list[Run]]]
"""Each line has its name, and a text with its style for each run."""


class ComparisonPanel(Panel[Comparison]):
    """It has a column for each run: how it stands, its reward, the settings that differ."""

    def lines(self, shown: Comparison, width: int, height: int) -> Iterator[Line]:
        results, settings = _results(shown), _settings(shown)
        table = [*results, *settings]
        names = min(max(len(name) for name, _ in table), width // 3)
        widths = _widths(results, settings, width - names)
        left_out = _left_out(shown, len(table) + 1 - height, len(widths))
        about = f"{plural(len(shown.run_dirs), 'run')} compared"
        yield [(about, "title"), (f"{GAP}{left_out}" if left_out else "", "muted")]
        for name, cells in table:
            line: list[Run] = [(self._cell(name, names), "muted")]
            for (text, style), cells_wide in zip(cells, widths, strict=False):
                line += [(GAP, ""), (self._cell(text, cells_wide), style)]
            yield line

    def _cell(self, text: str, width: int) -> str:
        """Fits a text in so many cells; of a path the end stays."""
        shown = visible(measured_in_ascii(text) if self.is_ascii else text)
        left = cell_len(shown) - width
        if left <= 0:
            return shown + " " * -left
        mark = "~" if self.is_ascii else "…"
        if "/" in shown:
            return mark + set_cell_size(shown[left + 1 :], max(0, width - 1))
        return set_cell_size(shown, max(0, width - 1)) + mark


def num_table_lines(shown: Comparison) -> int:
    return 1 + len(_results(shown)) + len(_settings(shown))


def _results(shown: Comparison) -> Table:
    runs = shown.runs
    rewards = [ABSENT if run.reward is None else describe_reward(run.reward) for run in runs]
    whose = dict.fromkeys(run.of for run in runs if run.of)
    is_same = len(whose) == 1
    found: Table = [
        ("", [(run.name, "title") for run in runs]),
        ("status", [(run.status, "") for run in runs]),
        ("round", [(run.round, "") for run in runs]),
        (f"reward, {next(iter(whose))}" if is_same else "reward", [(it, "") for it in rewards]),
    ]
    if len(whose) > 1:
        found.append(("of", [(run.of, "muted") for run in runs]))
    if any(run.more is not None for run in runs):
        found.append((f"more than {shown.base}", [_more(run) for run in runs]))
    return found


def _more(run: ComparedRun) -> Run:
    if run.more is None:
        return "", ""
    return describe_reward_change(run.more), MORE_STYLES[run.more.direction]


def _settings(shown: Comparison) -> Table:
    if not shown.settings:
        return [("", []), ("no setting differs", [])]
    return [
        ("", []),
        ("settings that differ", []),
        *((path, [(value, "") for value in values]) for path, values in shown.settings),
    ]


def _widths(results: Table, settings: Table, room: int) -> list[int]:
    """Returns the widths of as many columns as there is room for: only names and settings are
    shortened.
    """
    widths = [_widest(results[1:], place) for place in range(len(results[0][1]))]
    while len(widths) > 1 and sum(widths) + len(GAP) * len(widths) > room:
        widths.pop()
    left = room - sum(widths) - len(GAP) * len(widths)
    for place, width in enumerate(widths):
        wanted = min(MOST_CELL, _widest([*results, *settings], place))
        widths[place] = max(width, min(wanted, width + left // (len(widths) - place)))
        left -= widths[place] - width
    return widths


def _widest(table: Table, place: int) -> int:
    return max(cell_len(visible(cells[place][0])) for _, cells in table if cells)


def _left_out(shown: Comparison, num_settings: int, num_columns: int) -> str:
    """Says what has no room."""
    num_runs = len(shown.run_dirs) - num_columns
    told = [
        plural(number, noun)
        for number, noun in ((num_settings, "setting"), (num_runs, "run"))
        if number > 0
    ]
    return f"no room for {' and '.join(told)}" if told else ""

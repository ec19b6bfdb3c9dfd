"""Words the first line of the metrics screen: which runs and rounds it shows, and how; and what it
leaves out. It is pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.store.run_dir import RunDir

from halos_tui.charts.frame import MIN_NAME, told_apart
from halos_tui.charts.picture import ASCII_MARKERS, MARKERS
from halos_tui.formatting import plural, visible
from halos_tui.metrics.reader import key_names
from halos_tui.metrics.view import MetricsQuery, MetricsView
from halos_tui.text_layout import num_cells
from halos_tui.widgets.panel import GAP
from halos_tui.widgets.title_line import Title


def title_of(
    runs: Sequence[RunDir],
    view: MetricsView | None,
    query: MetricsQuery,
    *,
    is_log: bool,
    hidden: tuple[int, int],
    problem: str,
    width: int,
    is_ascii: bool = False,
) -> Title:
    """Returns the title; `hidden` are the charts above and below those in sight."""
    for run in runs:
        problem = problem.replace(visible(str(run.path)), visible(run.name))
    if view is None:
        about = [(", ".join(run.name for run in runs), "title")]
        return Title((*about, ("" if problem else "  reading ...", "muted")), problem=problem)
    about = [(_what(view), "accent")]
    about += [(f"  {text}", "warning") for text in _unusual(query, is_log=is_log)]
    if not view.charts:
        about.append((f"  {_nothing(view)}", "warning"))
    names = _names(runs, view, width - num_cells(about), is_ascii=is_ascii)
    state = tuple((text, "muted") for text in _more(view, hidden))
    return Title((*names, *about), state, problem)


def _names(
    runs: Sequence[RunDir], view: MetricsView, width: int, *, is_ascii: bool
) -> list[tuple[str, str]]:
    """Names the runs, or where there are several lines, each with its marker in all charts."""
    keys = view.keys if len(view.keys) > 1 else ()
    with_lines = {run for run, _ in keys}
    others = [run.name for run in runs if run.name not in with_lines or len(runs) == 1]
    names = tuple(visible(name) for name in (*key_names(keys), *others))
    room = width - len(names) * len(GAP) - len(keys) * len("* ")
    short = told_apart(names, max(MIN_NAME, room // max(1, len(names))))
    glyphs = ASCII_MARKERS if is_ascii else MARKERS
    marked = [
        (f"{glyph} {name}{GAP}", f"series-{place}")
        for place, (glyph, name) in enumerate(zip(glyphs, short[: len(keys)], strict=False), 1)
    ]
    plain = [(f"{name}{GAP}", "title") for name in short[len(keys) :]]
    return [*plain, *marked]


def note_of(view: MetricsView | None, *, key: str) -> str:
    """Says what the first page leaves out; `key` shows all."""
    if view is None or not view.num_constant:
        return ""
    charts, are = plural(view.num_constant, "constant chart"), _are(view.num_constant)
    return f"{charts} {are} left out; {key} shows all {view.num_charts}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _what(view: MetricsView) -> str:
    if view.kind == "round":
        return "by round"
    if not view.rounds:
        return "by step"
    first, last = view.rounds[0], view.rounds[-1]
    return f"by step, round{f' {last}' if first == last else f's {first} to {last}'}"


def _unusual(query: MetricsQuery, *, is_log: bool) -> list[str]:
    return [
        *(["log"] if is_log else []),
        *([f"smoothed {query.weight:g}"] if query.weight else []),
        *([f"filter {query.term.text}"] if query.term else []),
    ]


def _nothing(view: MetricsView) -> str:
    """Says why there is no chart."""
    if view.num_charts:
        return "nothing fits the filter"
    return "no round has finished a stage yet" if view.kind == "round" else "nothing is logged yet"


def _more(view: MetricsView, hidden: tuple[int, int]) -> list[str]:
    above, below = hidden
    return [
        _how_many(view),
        *([f"{above} above"] if above else []),
        *([f"{below} below"] if below else []),
        *([f"{view.num_others} by {_other(view)}"] if view.num_others else []),
    ]


def _how_many(view: MetricsView) -> str:
    shown = plural(len(view.charts), "chart")
    return shown if len(view.charts) == view.num_charts else f"{shown} of {view.num_charts}"


def _other(view: MetricsView) -> str:
    return "step" if view.kind == "round" else "round"

"""What the metrics screen says about itself: which runs and rounds, how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.store.run_dir import RunDir

from halos_tui.formatting import plural, visible
from halos_tui.metrics.view import MetricsView, Wish
from halos_tui.widgets.title_line import Title


def title_of(
    runs: Sequence[RunDir],
    view: MetricsView | None,
    wish: Wish,
    *,
    is_log: bool,
    hidden: tuple[int, int],
    problem: str,
) -> Title:
    """`hidden` are the charts above and below those in sight."""
    names = ", ".join(run.name for run in runs)
    for run in runs:
        problem = problem.replace(visible(str(run.path)), visible(run.name))
    about = [(names, "title")]
    if view is None:
        return Title((*about, ("" if problem else "  reading ...", "muted")), problem=problem)
    about.append((f"  {_what(view)}", "accent"))
    about += [(f"  {text}", "warning") for text in _unusual(wish, is_log=is_log)]
    if not view.charts:
        about.append((f"  {_nothing(view)}", "warning"))
    return Title(tuple(about), tuple((text, "muted") for text in _more(view, hidden)), problem)


def _what(view: MetricsView) -> str:
    if view.kind == "round":
        return "by round"
    if not view.rounds:
        return "by step"
    first, last = view.rounds[0], view.rounds[-1]
    return f"by step, round{f' {last}' if first == last else f's {first} to {last}'}"


def _unusual(wish: Wish, *, is_log: bool) -> list[str]:
    return [
        *(["log"] if is_log else []),
        *([f"smoothed {wish.weight:g}"] if wish.weight else []),
        *([f"filter {wish.term.text}"] if wish.term else []),
    ]


def _nothing(view: MetricsView) -> str:
    """Why there is no chart."""
    if view.num_charts:
        return "nothing fits the filter"
    return "no round has finished a stage yet" if view.kind == "round" else "nothing is logged yet"


def _more(view: MetricsView, hidden: tuple[int, int]) -> list[str]:
    above, below = hidden
    return [
        plural(len(view.charts), "chart"),
        *([f"{above} above"] if above else []),
        *([f"{below} below"] if below else []),
        *([f"{view.num_others} by {_other(view)}"] if view.num_others else []),
    ]


def _other(view: MetricsView) -> str:
    return "step" if view.kind == "round" else "round"

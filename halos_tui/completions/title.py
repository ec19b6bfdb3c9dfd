"""Says in the title of the completions screen what is listed, in what order, and how far it is."""

from __future__ import annotations

from dataclasses import replace

from halos_backend.store.run_dir import RunDir

from halos_tui.completions.view import ALL_ROUNDS, NEWEST, ListQuery, ListView
from halos_tui.formatting import count, percent, plural, visible
from halos_tui.text_layout import cropped, num_cells
from halos_tui.tracking.rounds import FINAL
from halos_tui.widgets.panel import GAP
from halos_tui.widgets.title_line import Title

LEAST_PROMPT = 12


def title_of(
    run_dir: RunDir, view: ListView, query: ListQuery, *, place: int | None, problem: str
) -> Title:
    """Returns the title; `place` is where the cursor is, None while nothing is listed."""
    about = [(run_dir.name, "title"), (f"  {_rounds(view, query)}", "accent")]
    if place is not None:
        about.append((f"  {count(place + 1)} of {count(len(view.keys))}", ""))
        if view.num_fitting > len(view.keys):
            about.append((f" ({plural(view.num_fitting, 'completion')})", "muted"))
    elif not view.rounds:
        about.append(("  no completions yet", "muted"))
    elif view.query == query and not view.num_bytes and view.num_searched == view.num_groups:
        about.append(("  nothing fits the filter" if _is_filtered(query) else "  none", "warning"))
    about.append((_order(query), "muted"))
    if query.only != "all":
        about.append((f"  only {query.only}", "warning"))
    if query.filter is not None:
        about.append((f"  filter {query.filter.typed}", "warning"))
    return Title(tuple(about), ((_progress(view), "muted"),), problem or _problems(run_dir, view))


def with_prompt(title: Title, prompt: str, width: int) -> Title:
    """Adds the prompt's text where there is room for some words of it."""
    text = visible(" ".join(prompt.split()))
    room = width - num_cells(title.about) - num_cells(title.state) - 2 * len(GAP)
    if room < LEAST_PROMPT:
        return title
    said = [(text, "accent")]
    if num_cells(title.state):
        said = [*cropped(said, 0, room)]  # else the title line ends it with an ellipsis
    return replace(title, about=(*title.about, (GAP, ""), *said))


def _is_filtered(query: ListQuery) -> bool:
    return query.filter is not None or query.only != "all"


def _rounds(view: ListView, query: ListQuery) -> str:
    number = query.listed_round(view.round)
    match number:
        case n if n == ALL_ROUNDS:
            return f"all {view.num_rounds} rounds"
        case n if n == NEWEST:
            return "newest round"
        case n if n > view.num_rounds and n in view.rounds:
            return FINAL
        case _:
            return f"round {number} of {view.num_rounds}"


def _order(query: ListQuery) -> str:
    match query.order:
        case "sampled":
            return "  last first" if query.ascending else ""
        case "reward":
            return "  worst first" if query.ascending else "  best first"
        case "length":
            return "  shortest first" if query.ascending else "  longest first"


def _progress(view: ListView) -> str:
    if view.num_bytes:
        return f"reading {percent(view.num_bytes_read / view.num_bytes)}"
    if view.num_searched < view.num_groups:
        return f"searching {percent(view.num_searched / view.num_groups)}"
    return ""


def _problems(run_dir: RunDir, view: ListView) -> str:
    """Names the first file with bad lines, from the run directory on, and counts the others."""
    if not view.problems:
        return ""
    more = f" (and {len(view.problems) - 1} more files)" if len(view.problems) > 1 else ""
    return f"left out: {view.problems[0].removeprefix(f'{run_dir.path}/')}{more}"

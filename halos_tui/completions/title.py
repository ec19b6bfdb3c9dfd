"""What the completions screen says about its list: which, in what order, how far it is."""

from __future__ import annotations

from halos_backend.store.run_dir import RunDir

from halos_tui.completions.views import ALL_ROUNDS, NEWEST, ListView, Wish
from halos_tui.formatting import count, percent
from halos_tui.run.rounds import FINAL
from halos_tui.widgets.title_line import Title


def title_of(
    run_dir: RunDir, view: ListView, wish: Wish, *, place: int | None, problem: str
) -> Title:
    """`place` is that of the cursor, None while nothing is listed."""
    about = [(run_dir.name, "title"), (f"  {_rounds(view, wish)}", "accent")]
    if place is not None:
        about.append((f"  {count(place + 1)} of {count(len(view.keys))}", ""))
    elif not view.rounds:
        about.append(("  no completions yet", "muted"))
    elif view.wish == wish and not view.num_bytes and view.num_searched == view.num_groups:
        about.append(("  nothing fits the filter" if _is_filtered(wish) else "  none", "warning"))
    about.append((_order(wish), "muted"))
    if wish.only != "all":
        about.append((f"  only {wish.only}", "warning"))
    if wish.term is not None:
        about.append((f"  filter {'/' * wish.term.is_regex}{wish.term.text}", "warning"))
    return Title(tuple(about), ((_progress(view), "muted"),), problem or _problems(run_dir, view))


def _is_filtered(wish: Wish) -> bool:
    return wish.term is not None or wish.only != "all"


def _rounds(view: ListView, wish: Wish) -> str:
    number = view.round if wish.round == NEWEST else wish.round
    match number:
        case n if n == ALL_ROUNDS:
            return f"all {view.num_rounds} rounds"
        case n if n == NEWEST:
            return "newest round"
        case n if n > view.num_rounds and n in view.rounds:
            return FINAL
        case _:
            return f"round {number} of {view.num_rounds}"


def _order(wish: Wish) -> str:
    match wish.order:
        case "sampled":
            return "  last first" if wish.ascending else ""
        case "reward":
            return "  worst first" if wish.ascending else "  best first"
        case "length":
            return "  shortest first" if wish.ascending else "  longest first"


def _progress(view: ListView) -> str:
    if view.num_bytes:
        return f"reading {percent(view.num_bytes_read / view.num_bytes)}"
    if view.num_searched < view.num_groups:
        return f"searching {percent(view.num_searched / view.num_groups)}"
    return ""


def _problems(run_dir: RunDir, view: ListView) -> str:
    """The first file with bad lines, from the run directory on, and how many more there are."""
    if not view.problems:
        return ""
    more = f" (and {len(view.problems) - 1} more files)" if len(view.problems) > 1 else ""
    return f"left out: {view.problems[0].removeprefix(f'{run_dir.path}/')}{more}"

"""What the logs screen says about its log: which, where in it one is, what goes on."""

from __future__ import annotations

from halos_backend.store.run_dir import RunDir

from halos_tui.formatting import percent, size
from halos_tui.logs.hunt import Hunt
from halos_tui.logs.reader import LogView, LogWish
from halos_tui.logs.window import LogRow
from halos_tui.widgets.title_line import Title


def title_of(
    run_dir: RunDir,
    wish: LogWish,
    view: LogView | None,
    *,
    row: LogRow | None,
    hunt: Hunt | None,
    problem: str,
    is_choosing: bool,
) -> Title:
    """`row` is the one at the cursor."""
    about = [(run_dir.name, "title"), (f"  {_which(wish, view)}", "accent")]
    state: list[tuple[str, str]] = []
    if hunt is not None:
        state.append((f"searching {percent(hunt.fraction)}, escape stops", "warning"))
    if is_choosing:
        state.append(("lines chosen to here, y copies", "warning"))
    state.append(("following", "good") if wish.follows else ("not following", "muted"))
    if view is not None and view.num_new_bytes:
        state.append((f"{size(view.num_new_bytes)} new below", "accent"))
    if view is not None and view.status.num_bytes:
        place = row.end / view.status.num_bytes if row is not None else 0.0
        state.append((f"{percent(place)} of {size(view.status.num_bytes)}", "muted"))
    if wish.style.term is not None:
        state.append((f"{'/' * wish.style.term.is_regex}{wish.style.term.text}", "accent"))
    return Title(tuple(about), tuple(state), problem or _problem(view))


def _which(wish: LogWish, view: LogView | None) -> str:
    if view is None:
        return "reading ..."
    if view.source is not None:
        return view.source.title
    return f"{wish.stage or 'a stage'}{f' of round {wish.round}' if wish.round else ''}"


def _problem(view: LogView | None) -> str:
    """What is out of the ordinary with the file."""
    if view is None:
        return ""
    if view.source is None:
        return "it has not started yet; its log appears here once it has"
    status = view.status
    match status.condition:
        case "absent":
            return "nothing is written yet"
        case "unreadable":
            return status.problem
        case "deleted":
            return "the file is deleted; this is what it had"
        case "present":
            if status.restart is not None and status.generation > 1:
                return f"the file was {status.restart} while it was shown: from here on it is new"
            return "" if status.num_bytes else "it is empty"

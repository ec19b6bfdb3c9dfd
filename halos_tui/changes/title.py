"""What the changes screen says about itself: how many changes, which rounds, how the run is."""

from __future__ import annotations

from halos_backend.store.run_dir import RunDir

from halos_tui.changes.view import ChangesView, Wish
from halos_tui.formatting import count, plural, visible
from halos_tui.widgets.title_line import Title


def title_of(
    run_dir: RunDir, view: ChangesView | None, wish: Wish, *, place: int, problem: str
) -> Title:
    """`place` is that of the cursor."""
    about = [(run_dir.name, "title")]
    problem = problem.removeprefix(f"{visible(str(run_dir.path))}/")
    if view is None:
        return Title((*about, ("" if problem else "  reading ...", "muted")), problem=problem)
    about.append((f"  {_history(view, place)}", "accent" if view.entries else "muted"))
    if wish.term is not None:
        about.append((f"  filter {'/' * wish.term.is_regex}{wish.term.text}", "warning"))
    if wish.rounds is not None:
        about.append(("  rounds chosen by hand", "warning"))
    of = f" of {view.planned}" if view.planned else ""
    state = f"{view.status}, round {view.num_rounds}{of}"
    return Title(tuple(about), ((state, "muted"),), problem)


def _history(view: ChangesView, place: int) -> str:
    if view.entries:
        return f"{count(place + 1)} of {plural(len(view.entries), 'change')}"
    return "nothing fits the filter" if view.num_entries else "nothing was changed"

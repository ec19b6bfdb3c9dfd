"""`fork`: a new run from a round of an old one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from halos_backend.config.forks import fork_settings
from halos_backend.config.schema import RunSettings
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.supervisor import fork
from halos_backend.supervisor.fork_origin import Origin, find_origin

from halos_tui.cli import starting
from halos_tui.cli.options import (
    Detach,
    FollowJson,
    Name,
    NoUi,
    Overrides,
    PauseOnTerm,
    RunName,
    RunsDir,
    runs_root,
)
from halos_tui.formatting import count, plural
from halos_tui.headless import notices
from halos_tui.headless.progress import ProgressBar

LONGEST_STEM = 90
"""A run's name has at most 100 characters, and `-r12-2` comes behind."""


def command(
    run: RunName,
    round: Annotated[
        int, typer.Option("--round", metavar="N", help="The round whose checkpoint it begins with.")
    ],
    overrides: Overrides = None,
    name: Name = None,
    runs_dir: RunsDir = None,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
) -> int:
    """Start a new run that begins after round N of an old one, and follow it.

    Its settings are those that held, or would have held, for the round after N, with your --set
    over them; all but policy.path may differ. Its initial policy (for the reference `initial` and
    the KL) is that checkpoint. It goes on behind the prompts that were taken, unless prompts,
    chat template or seed differ; AdamW's moments come along where they are still there. Rounds are
    counted from 1 again, and loop.num_rounds are its own. Nothing is shared: the old run may be
    deleted.
    """
    root = runs_root(runs_dir)
    run_dir = find_run(root, run)
    state = check_readable(load_state(run_dir), run_dir)
    origin = find_origin(run_dir, state, round)
    settings = fork_settings(origin.settings, overrides or (), directory=Path.cwd())
    create = partial(
        _create, root=root, name=name, origin=origin, settings=settings, overrides=overrides or []
    )
    return starting.start_new(
        settings, create, root=root, json=json, detach=detach, pause_on_term=pause_on_term
    )[1]


def _create(
    bar: ProgressBar,
    *,
    root: Path,
    name: str | None,
    origin: Origin,
    settings: RunSettings,
    overrides: list[str],
) -> RunDir:
    made = fork.create_fork(
        root,
        name or _default_name(origin, root),
        origin,
        settings,
        config_text=_config_text(origin, overrides),
        report=bar.update,
    )
    state = load_state(made)
    carried = "with" if state.forked_from and state.forked_from.train else "without"
    notices.say(
        f"{made.name} begins after round {origin.round.round} of {origin.state.run}, behind"
        f" {plural(state.first_cursor, 'prompt')} of {count(state.num_prompts)}, {carried} its"
        " trainer state"
    )
    return made


def _default_name(origin: Origin, root: Path) -> str:
    stem = f"{origin.run_dir.name[:LONGEST_STEM]}-r{origin.round.round}"
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next((free for free in taken if not (root / free).exists()), stem)


def _config_text(origin: Origin, overrides: list[str]) -> str:
    """The old run's file, with what came of it in front; config.resolved.json is what holds."""
    with_set = "".join(f" --set {text!r}" for text in overrides)
    head = f"# forked: halos-tui fork {origin.run_dir.name} --round {origin.round.round}{with_set}"
    return f"{head}\n{origin.run_dir.config.read_text(encoding='utf-8')}"

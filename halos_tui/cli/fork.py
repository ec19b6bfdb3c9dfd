"""This verb is `fork`: it makes a new run from a round of an old one."""

from __future__ import annotations

from typing import Annotated

import typer

from halos_tui.cli import completing
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


def command(
    run: RunName,
    round: Annotated[
        int,
        typer.Option(
            "--round",
            metavar="N",
            help="The round whose checkpoint it begins with.",
            autocompletion=completing.forkable_rounds,
        ),
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
    from halos_backend.store.run_dir import RunDir, find_run

    from halos_tui.cli import starting  # pydantic: 0.15 s
    from halos_tui.headless import notices
    from halos_tui.headless.progress import ProgressBar
    from halos_tui.new_run import create

    root = runs_root(runs_dir)
    plan = create.plan_fork(find_run(root, run), round, overrides or ())
    starting.say_defaults(overrides, plan.settings)

    def make(bar: ProgressBar) -> RunDir:
        made = create.create_fork(plan, root=root, name=name, report=bar.update)
        notices.say(create.describe_fork(made, plan))
        return made

    return starting.start_new(
        plan.settings, make, root=root, json=json, detach=detach, pause_on_term=pause_on_term
    )[1]

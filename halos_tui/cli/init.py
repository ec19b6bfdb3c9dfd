"""`init`: a commented run file on stdout."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from halos_backend.config.presets import init_file


def command(
    loss: Annotated[str, typer.Argument(help="dpo, kto, grpo, ...; an unknown one lists all.")],
    beta: Annotated[float | None, typer.Argument(help="Strength of the pull to the reference.")] = (
        None
    ),
    lr: Annotated[float | None, typer.Argument(help="Peak learning rate.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Values to start from; an unknown one lists all.")
    ] = None,
) -> None:
    """Write a commented run file on stdout.

    halos-tui init dpo 0.1 5e-6 > run.toml; BETA is tau for ipo and delta for slic.
    """
    sys.stdout.write(init_file(loss, beta, lr, preset))

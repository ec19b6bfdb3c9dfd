"""This verb is `init`: it writes a run file on stdout."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from halos_tui.cli import completing


def command(
    loss: Annotated[
        str | None,
        typer.Argument(
            metavar="[LOSS]",
            help="dpo (the default), kto, grpo, ...; an unknown one lists all.",
            show_default=False,
            autocompletion=completing.losses,
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Argument(metavar="[BETA]", help="Strength of the pull to the reference."),
    ] = (None),
    lr: Annotated[float | None, typer.Argument(metavar="[LR]", help="Peak learning rate.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The model to align, or its hub name.",
            autocompletion=completing.files,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A .json, .jsonl, .csv or .parquet file, or a hub name.",
            autocompletion=completing.files,
        ),
    ] = None,
    prompt_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The prompts' column; by default the one that looks so."),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="A function that gives the reward.",
            autocompletion=completing.files,
        ),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A model that gives the reward, or its hub name.",
            autocompletion=completing.files,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Values to start from; an unknown one lists all.",
            autocompletion=completing.presets,
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full/--minimal", help="Every setting with its help, or what one changes at first."
        ),
    ] = False,
) -> None:
    """Write a run file on stdout.

    halos-tui init --policy DIR --prompts FILE --reward judge.py:reward > run.toml makes one that
    runs as it is; what is not named stays to be filled in. BETA is tau for ipo and delta for slic.
    """
    from halos_backend.config.own_inputs import examine_inputs  # pydantic: 0.1 s
    from halos_backend.config.presets import init_file, minimal_file, preset_settings
    from halos_backend.config.schema import LaunchSettings
    from halos_backend.interpreters.device import device_of

    inputs = examine_inputs(
        policy=policy,
        prompts=prompts,
        prompt_column=prompt_column,
        reward=reward,
        reward_model=reward_model,
    )
    if loss is None:
        loss = "dpo" if preset is None else preset_settings(preset)["train"]["loss"]["kind"]
    if full:
        sys.stdout.write(init_file(loss, beta, lr, preset, inputs))
        return
    is_cpu = device_of(LaunchSettings()) == "cpu"
    sys.stdout.write(minimal_file(loss, beta, lr, preset, inputs, is_cpu=is_cpu))

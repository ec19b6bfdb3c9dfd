"""A stage's choice of its engine, for who asks before the run begins: `interpreters.choice`.

Reads the run's settings as JSON on standard input. The last line on standard output is a `Verdict`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode, UsageError
from halos_backend.interpreters.engine_choice import EngineChoice, Verdict
from halos_backend.stages.runtime import set_threads


def answer(choose: Callable[[RunSettings], EngineChoice]) -> NoReturn:
    """Say what is chosen, or why nothing can be. `choose` is free to import torch."""
    settings = RunSettings.model_validate_json(sys.stdin.buffer.read())
    set_threads(1)
    try:
        verdict = Verdict(choice=choose(settings))
    except UsageError as error:
        verdict = Verdict(refusal=str(error))
    sys.stdout.write("\n" + msgspec.json.encode(verdict).decode() + "\n")
    sys.stdout.flush()
    os._exit(ExitCode.COMPLETED)

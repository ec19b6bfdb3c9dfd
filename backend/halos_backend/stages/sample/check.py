"""`python -m halos_backend.stages.sample.check`: which engine a run would sample with.

Reads the run's settings as JSON on standard input. The last line on standard output is a `Verdict`.
"""

from __future__ import annotations

import os
import sys

import msgspec

from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode, UsageError
from halos_backend.interpreters.sampler import Verdict
from halos_backend.stages.runtime import set_threads


def main() -> ExitCode:
    settings = RunSettings.model_validate_json(sys.stdin.buffer.read())
    set_threads(1)
    from halos_backend.stages.sample.choice import choose_engine  # after the threads are set

    try:
        verdict = Verdict(choice=choose_engine(settings, settings.policy.path))
    except UsageError as error:
        verdict = Verdict(refusal=str(error))
    sys.stdout.write("\n" + msgspec.json.encode(verdict).decode() + "\n")
    return ExitCode.COMPLETED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)

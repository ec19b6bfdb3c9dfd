"""Runs the cases of a fuzz test, and calls the programs inside the test's own process."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from halos_backend.client.start import read_prepared
from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode
from halos_backend.findings import problems_in
from halos_backend.records import Prompt, read_rows
from halos_backend.stages.prepare.__main__ import main as prepare_main
from halos_backend.store.input_files import read_inputs
from halos_backend.store.run_dir import RunDir

from halos_tui.cli.main import main as halos_main

SEED = int(os.environ.get("SEED", "1"))
CASES = int(os.environ.get("FUZZ_CASES", "200"))
"""Of all fuzz tests together."""
MOST_SHOWN = 5


def run_cases(name: str, share: float, case: Callable[[random.Random], str]) -> None:
    """Make this test's share of all cases; `case` returns what is wrong, nothing where all is well.

    Fails with the first of those that went wrong. A case is drawn again by its number alone.
    """
    wrong = []
    only = os.environ.get("CASE")
    numbers = range(max(1, round(CASES * share))) if only is None else [int(only)]
    for number in numbers:
        said = case(random.Random(f"{SEED}/{name}/{number}"))
        if said:
            wrong.append(f"SEED={SEED} CASE={number}: {said}")
    if wrong:
        shown = "\n".join(wrong[:MOST_SHOWN])
        pytest.fail(f"{len(wrong)} of {len(numbers)} cases of {name}:\n{shown}", pytrace=False)


@dataclass(frozen=True)
class Outcome:
    """What a program left."""

    code: int
    stdout: str
    stderr: str

    def complaint(self, *codes: int) -> str:
        """What of it a person must never see; empty where all is well."""
        if self.code not in codes:
            return f"exit code {self.code}: {self.stderr[-3000:]}"
        if "Traceback" in self.stderr or "defect" in self.stderr:
            return self.stderr[-3000:]
        if self.code == ExitCode.USAGE and not self.stderr.strip():
            return "refused without a word"
        return ""


def call(program: Callable[[list[str]], int], *arguments: str) -> Outcome:
    """Run it in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program(list(arguments))
    return Outcome(code, out.getvalue(), err.getvalue())


def halos(*arguments: str) -> Outcome:
    """The command line."""
    return call(halos_main, *arguments)


def check_inputs(run_dir: RunDir, settings: dict[str, Any]) -> str:
    """What is wrong with how the check of the inputs ends; empty where nothing is."""
    shutil.rmtree(run_dir.path, ignore_errors=True)
    run_dir.path.mkdir(parents=True)
    run_dir.resolved_config.write_text(RunSettings.model_validate(settings).model_dump_json())
    done = call(prepare_main, "--run-dir", str(run_dir.path))
    return done.complaint(ExitCode.COMPLETED, ExitCode.USAGE) or _incoherent(run_dir, done)


def _incoherent(run_dir: RunDir, done: Outcome) -> str:
    """Inputs are right, and everything is there, or there is a problem with words of its own."""
    prepared = read_prepared(run_dir)
    problems = problems_in(prepared.findings)
    if bool(problems) != (done.code == ExitCode.USAGE):
        return f"exit code {done.code} with {problems}"
    if any(not problem.text.strip() for problem in problems):
        return f"a problem without words: {problems}"
    if problems:
        return ""
    rows = list(read_rows(run_dir.prompts, Prompt))
    if not rows or len(rows) != prepared.num_prompts or not read_inputs(run_dir):
        return f"accepted, with {len(rows)} prompts of {prepared.num_prompts}"
    return ""


def restore(good: Path, place: Path) -> None:
    """The good directory again, in place of whatever a case made of it."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(good, place)

"""A person's folder with files that are named as modules of Python's and of ours are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.place import Place

SHADOWING = (
    *("random", "json", "typing", "types", "logging", "socket", "string", "token", "inspect"),
    *("torch", "tokenizers", "transformers", "yaml", "numpy", "accelerate", "datasets", "regex"),
    *("msgspec", "pydantic", "rich", "typer", "textual", "psutil", "halos_backend"),
)


@pytest.fixture
def folder(plain_place: Place) -> Place:
    """The run file, the judge and its neighbours lie in it, and it is where one stands."""
    for name in SHADOWING:
        (plain_place.path / f"{name}.py").write_text(
            f"raise SystemExit('the {name}.py of the folder')\n"
        )
    judge = plain_place.path / "judge.py"
    judge.write_text(f"import json, random, numpy\n{judge.read_text()}")
    plain_place.config(prompts__path="prompts.jsonl", label__judge__function="judge.py:vowels")
    return plain_place


def halos_tui(place: Place, *arguments: str) -> None:
    script = Path(sys.executable).with_name("halos-tui")
    done = subprocess.run(
        [script, *arguments, "--runs-dir", "runs"],
        cwd=place.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, "of the folder" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "command", [("run", "run.toml", "--dry-run"), ("doctor", "run.toml"), ("demo", "--dry-run")]
)
def test_files_of_a_folder_hide_no_modules(folder: Place, command: tuple[str, ...]) -> None:
    halos_tui(folder, *command)


@pytest.mark.slow
def test_stages_of_a_run_that_starts_there_find_their_modules(folder: Place) -> None:
    halos_tui(folder, "run", "run.toml", "--no-ui", "--set", "loop.num_rounds=1")


def test_nor_where_python_is_asked_for_the_module(folder: Place) -> None:
    (folder.path / "types.py").unlink()  # which Python itself imports before any of ours
    finished = folder.halos("run", "run.toml", "--dry-run", cwd=folder.path)
    assert finished.code == 0, finished.stderr

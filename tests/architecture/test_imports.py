"""Who may import whom, by import-linter, and what really gets imported, by a clean interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE_LEARNING = {"torch", "transformers", "accelerate", "datasets", "peft", "numpy", "pandas"}
LIGHT = [
    "halos_backend.errors",
    "halos_backend.records",
    "halos_backend.events",
    "halos_backend.store.registry",
    "halos_backend.store.manifest",
    "halos_backend.store.job",
    "halos_backend.store.attempt_state",
    "halos_backend.store.liveness",
    "halos_backend.store.prompt_order",
]


def in_clean_interpreter(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python from the repository, without what pytest has imported or set."""
    paths = os.pathsep.join([str(ROOT / "backend"), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )


def top_level_imports(module: str) -> set[str]:
    """The top-level packages in `sys.modules` after importing `module` alone."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = in_clean_interpreter("-c", code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        *LIGHT,
        "halos_backend.config.schema",
        "halos_backend.supervisor.plan",
        "halos_backend.client.start",
        "halos_backend.store.requests",
        "halos_backend.client.ask",
        "halos_backend.supervisor.__main__",
        "halos_backend.stages.runtime",
        "halos_tui.cli.main",
    ],
)
def test_what_starts_often_imports_no_machine_learning_and_no_screen(module: str) -> None:
    imported = top_level_imports(module)

    assert imported & (MACHINE_LEARNING | {"textual"}) == set()
    assert module.split(".")[0] in imported


@pytest.mark.parametrize("module", LIGHT)
def test_the_store_and_all_below_it_know_nothing_of_settings(module: str) -> None:
    assert "pydantic" not in top_level_imports(module)


def test_the_backend_imports_nothing_that_draws() -> None:
    imported = top_level_imports("halos_backend.supervisor.__main__")

    assert imported & {"textual", "rich", "typer", "halos_tui"} == set()


def test_the_import_contracts_hold() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"

    done = in_clean_interpreter("-c", code, "--no-cache")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_helpers_of_the_tests_are_in_one_folder_and_no_test_folder_imports_another() -> None:
    """What a run under test loads by its path, a judge or a program, may lie beside its test."""
    imported = re.compile(r"^(?:from|import) tests\.(\w+)", re.MULTILINE)
    wrong = []
    for path in (ROOT / "tests").glob("*/**/*.py"):
        folder = path.relative_to(ROOT / "tests").parts[0]
        found = set(imported.findall(path.read_text())) - {"support", folder}
        wrong += [f"{path.relative_to(ROOT)} imports tests.{name}" for name in found]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in _helpers()]
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        wrong += [f"{name} is a helper of {path.name}" for name in modules if name in text]
    assert wrong == []


def _helpers() -> list[Path]:
    """Modules beside the tests that are neither tests nor fixtures."""
    return [
        path
        for path in (ROOT / "tests").glob("*/**/*.py")
        if path.relative_to(ROOT / "tests").parts[0] != "support"
        and not path.name.startswith(("test_", "conftest"))
    ]

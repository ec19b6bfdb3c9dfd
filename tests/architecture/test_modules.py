"""What every module keeps to: it says what it owns, and has a name that means something."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("backend", "halos_tui")
    for path in (ROOT / folder).rglob("*.py")
)
NO_NAMES = {"utils", "helpers", "common", "manager", "handler", "data", "info"}


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 30


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_begins_by_saying_what_it_owns(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text()))

    assert docstring, "no docstring"
    assert docstring.splitlines()[0].strip()


def test_no_module_is_named_after_nothing() -> None:
    assert [path for path in MODULES if path.stem in NO_NAMES] == []


def test_every_folder_of_modules_is_a_package() -> None:
    """One that is not is left out of the wheel, and out of a clone where it is ignored."""
    folders = {path.parent for path in MODULES} - {Path("backend")}

    assert {str(folder) for folder in folders if folder / "__init__.py" not in MODULES} == set()


def test_no_file_names_the_machine_it_was_written_on() -> None:
    mine = [path for path in MODULES if str(ROOT) in (ROOT / path).read_text()]

    assert mine == []

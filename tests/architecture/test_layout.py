"""A thing is found where modules have a readable size and imports go one way only."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"halos_backend": ROOT / "backend", "halos_tui": ROOT}
SMALL = 60
MOST_MODULES = 369
MOST_IMPORTS = 0.09
"""Limits the share of lines that import; a project of thousands of small files has more."""
REASON = re.compile(r"\b(because|so that|stands? alone)\b")
ONE_THING_A_FILE = re.compile(r"\bone\b.*\b(a|per) file\b")

Graph = Mapping[str, set[str]]


class Module(NamedTuple):
    """Describes a file of the product; `is_empty` says that it is a docstring alone."""

    path: Path
    tree: ast.Module
    lines: int
    first_line: str

    @property
    def is_empty(self) -> bool:
        return len(self.tree.body) == 1


@cache
def sources() -> Mapping[str, Module]:
    """Maps dotted names to files; that of a package is its `__init__.py`."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            text = path.read_text()
            tree = ast.parse(text)
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            first_line = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[name.removesuffix(".__init__")] = Module(path, tree, text.count("\n"), first_line)
    return found


@cache
def modules() -> Mapping[str, Module]:
    """Leaves out each `__init__.py` that only says what its folder holds."""
    return {name: module for name, module in sources().items() if not module.is_empty}


def small_modules() -> set[str]:
    return {name for name, module in modules().items() if module.lines < SMALL}


def imports_in(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yields the deferred ones too, and those that only a type checker executes."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def names_of(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Names the modules of the product that the statement imports; it is no relative import."""
    known = sources()
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & known.keys()
    inner = {f"{node.module}.{alias.name}" for alias in node.names}
    is_outer = any(name not in known for name in inner)
    return (inner | ({str(node.module)} if is_outer else set())) & known.keys()


@cache
def graph() -> Graph:
    """Says which modules each one imports."""
    return {
        name: {other for node in imports_in(module.tree) for other in names_of(node)}
        for name, module in sources().items()
    }


def importers(module: str) -> set[str]:
    return {name for name, imported in graph().items() if module in imported and name != module}


def reachable(edges: Graph, start: str) -> set[str]:
    """Finds all that one import or more lead to from `start`."""
    found: set[str] = set()
    left = [start]
    while left:
        new = edges[left.pop()] - found
        found |= new
        left += new
    return found


def in_circles(edges: Graph) -> set[str]:
    return {name for name in edges if name in reachable(edges, name)}


def folder_of(module: str) -> str | None:
    """Finds the folder of `halos_tui` that the module is in; None stands for those beside them."""
    package, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    is_package = package == "halos_tui" and (ROOT / package / folder / "__init__.py").is_file()
    return folder if folder and is_package else None


def says_why_it_is_small(name: str) -> bool:
    """Looks in its first line, and in that of its folder, which may hold one thing a file."""
    folder = sources()[name.rpartition(".")[0]]
    by_rule = ONE_THING_A_FILE.search(folder.first_line)
    return bool(by_rule or REASON.search(modules()[name].first_line))


def test_there_are_few_modules_and_few_lines_of_them_are_imports() -> None:
    assert len(modules()) <= MOST_MODULES
    imports = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for module in sources().values()
        for node in imports_in(module.tree)
    )
    assert imports < MOST_IMPORTS * sum(module.lines for module in sources().values())


def test_no_module_is_longer_than_a_person_reads_at_once() -> None:
    assert {name: m.lines for name, m in modules().items() if m.lines > 500} == {}


def test_a_small_module_with_one_importer_says_why_it_is_not_in_there() -> None:
    candidates = {
        name
        for name in small_modules()
        if modules()[name].path.stem not in ("__init__", "__main__") and len(importers(name)) == 1
    }

    assert {name for name in candidates if not says_why_it_is_small(name)} == set()


def test_most_modules_are_long_enough_to_be_worth_opening() -> None:
    assert statistics.median(module.lines for module in modules().values()) >= 110
    assert len(small_modules()) <= 70


@pytest.mark.parametrize(
    ("edges", "circle"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, {"b", "c"}),
        ({"a": {"a"}}, {"a"}),
    ],
)
def test_a_circle_is_found_where_there_is_one(edges: Graph, circle: set[str]) -> None:
    assert in_circles(edges) == circle


def test_imports_are_found_wherever_they_stand() -> None:
    code = """
from halos_backend import clock, SCHEMA_VERSION
if TYPE_CHECKING:
    import halos_tui.keymap
def later():
    from halos_backend.events import RunCreated
"""

    found = {name for node in imports_in(ast.parse(code)) for name in names_of(node)}

    assert found == {
        *("halos_backend", "halos_backend.clock", "halos_backend.events", "halos_tui.keymap"),
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert in_circles(graph()) == set()


def test_no_two_folders_of_the_screen_import_each_other() -> None:
    crossings = {(folder_of(name), folder_of(other)) for name in graph() for other in graph()[name]}
    folders = sorted({folder for pair in crossings for folder in pair if folder})

    assert [(a, b) for a, b in combinations(folders, 2) if {(a, b), (b, a)} <= crossings] == []


def test_modules_are_named_in_full_where_they_are_imported() -> None:
    relative = [
        name
        for name, module in sources().items()
        if any(node.level for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom))
    ]

    assert relative == []

"""The README and the pages: short, linked, complete; and the first run that they show works."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from halos_backend.events import AttemptEvent, RunEvent

from halos_tui.commands import VERBS
from tests.support.place import make_policy

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
MOST_LINES = 120
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PLACES = [ROOT, *(ROOT / name for name in ("backend/halos_backend", "halos_tui", "benchmarks"))]
"""What paths of the pages about the code start from."""
PATH_IN_CODE = re.compile(r"`([a-z_]+(?:/[\w.]+)*(?:\.py|/))`")
NAMES_IN_TREE = re.compile(r"^ {2,}((?:[a-z_/]+(?:\.py|/)(?: |$))+)", re.MULTILINE)
LONG_CONTEXT = {"max_position_embeddings": 256}
"""A token of the tiny policy is a letter."""


def links_of(page: Path) -> list[str]:
    """Targets of the page's links, but for those to other sites."""
    return LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors_of(page: Path) -> Iterator[str]:
    """As GitHub makes them of headings: letters, digits, `-` and `_`, in small letters."""
    for line in FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip().lower()
            yield re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in set(anchors_of(target)), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)}
        waiting.extend(path for path in targets - reached if path.suffix == ".md")
    assert {page.resolve() for page in PAGES} <= reached


def test_every_picture_is_shown_on_a_page() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links_of(page)}
    pictures = set((ROOT / "screenshots").glob("*.svg"))
    assert pictures and pictures <= shown


@pytest.mark.parametrize("page", ["architecture.md", "development.md"])
def test_files_and_folders_that_a_page_about_the_code_names_are_there(page: str) -> None:
    named = PATH_IN_CODE.findall(FENCE.sub("", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    assert [name for name in named if not any((place / name).exists() for place in PLACES)] == []


def test_files_and_folders_of_the_tree_of_the_code_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = next(block for block in FENCE.findall(text) if "halos_tui/" in block)
    known = {path.name for place in PLACES[1:] for path in place.rglob("*")}
    named = [name for line in NAMES_IN_TREE.findall(tree) for name in line.split()]
    assert len(named) > 20
    assert [name for name in named if Path(name).name not in known] == []


def test_the_page_of_make_targets_has_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    page = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    assert phony is not None
    assert set(re.findall(r"`make ([\w-]+)", page)) == set(phony[1].split())


def test_the_page_of_the_run_directory_has_every_event() -> None:
    page = (ROOT / "docs/run_directory.md").read_text(encoding="utf-8")
    events = [event.__name__ for event in (*get_args(RunEvent), *get_args(AttemptEvent))]
    assert len(events) > 25
    assert [name for name in events if f"`{name}`" not in page] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_readme_names_the_two_commands_that_everyone_needs() -> None:
    commands = re.findall(r"^    (make \w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["make demo", "make test"]


def test_the_table_of_verbs_has_every_verb() -> None:
    rows = re.findall(r"^\| (`.*?) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    named = {
        code.removeprefix("halos-tui ").split()[0] for row in rows for code in row.split("`")[1::2]
    }
    assert named - {"halos-tui"} == set(VERBS)


def test_the_first_run_of_the_readme_works_as_it_is_copied(tmp_path: Path) -> None:
    """Up to the plan: the policy is a tiny one, and the run itself is not started."""
    shown = re.search(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    lines = shown[1].splitlines()
    assert lines[-1] == "halos-tui run run.toml"
    make_policy(tmp_path / "policy")
    config = tmp_path / "policy/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **LONG_CONTEXT}))
    done = subprocess.run(
        ["bash", "-eu"],
        input="\n".join(lines[:-1]).replace(HUB_NAME, "policy"),
        cwd=tmp_path,
        env={**os.environ, "HALOS_RUNS_DIR": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "of dpo, 40 prompts" in done.stdout

"""Which code a run goes on with."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from halos_backend.supervisor.provenance import changed_versions, code_versions, source_digest


def test_versions_are_those_of_the_installed_packages() -> None:
    found = code_versions()
    assert found["python"] == platform.python_version()
    for package in ("halos-tui", "torch", "transformers", "accelerate", "peft"):
        assert found[package] == metadata.version(package)
    assert len(found["halos_backend"]) == 12


def test_no_package_is_imported_for_its_version() -> None:
    code = (
        "import sys; from halos_backend.supervisor.provenance import code_versions;"
        "code_versions(); print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_differs_is_named_with_both_versions() -> None:
    before = {"torch": "2.6", "peft": "0.17", "python": "3.11.7"}
    now = {"torch": "2.7", "vllm": "0.32", "python": "3.11.7"}
    assert changed_versions(before, now) == {
        "torch": ("2.6", "2.7"),
        "peft": ("0.17", "none"),
        "vllm": ("none", "0.32"),
    }
    assert changed_versions({}, now) == {}


def test_the_digest_of_the_sources_changes_with_a_byte_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    one = tmp_path / "inner" / "one.py"
    one.write_text("a = 1\n")
    first = source_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no source")
    assert source_digest(tmp_path) == first
    one.write_text("a = 2\n")
    second = source_digest(tmp_path)
    one.rename(tmp_path / "one.py")
    assert len({first, second, source_digest(tmp_path)}) == 3

"""What somebody gets who installs the program: every file of the packages, and no clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKED = {
    "halos_tui": "halos_tui",
    "backend/halos_backend": "halos_backend",
    "themes": "halos_tui/themes",
}
"""Folders of the clone, and where their files lie in the wheel."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put among the installed packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("halos_tui-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def files_below(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(unpacked: Path) -> None:
    expected = {
        Path(place) / path
        for folder, place in PACKED.items()
        for path in files_below(ROOT / folder)
    }
    found = {path for path in files_below(unpacked) if not path.parts[0].endswith(".dist-info")}
    assert found == expected
    kinds = {path.parent for path in found if path.suffix == ".toml"}
    assert kinds == {Path("halos_tui/themes"), Path("halos_backend/config/presets")}


def test_a_program_from_the_wheel_finds_its_themes_and_presets(
    unpacked: Path, tmp_path: Path
) -> None:
    program = (
        "from halos_backend.config.presets import preset_names\n"
        "from halos_tui.theme import PLACES, theme_files\n"
        "print(PLACES[0], *theme_files(), *preset_names())"
    )
    said = python(unpacked, tmp_path, program).split()
    assert said[0] == str(unpacked / "halos_tui" / "themes")
    assert {"dark", "light", "llama-dpo"} <= set(said)


def python(unpacked: Path, folder: Path, program: str) -> str:
    """What it prints, with the unpacked wheel before the clone."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout

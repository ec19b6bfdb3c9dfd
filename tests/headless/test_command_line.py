"""The command line as a whole: help, version, usage errors, what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from halos_tui.cli.main import VERBS, main
from tests.headless.conftest import Halos
from tests.support.made_run import MadeRun

HEAVY = ("torch", "transformers", "accelerate", "peft", "datasets", "vllm", "textual", "numpy")


def _imports(environment: dict[str, str], *arguments: str) -> set[str]:
    """Top-level modules that a clean interpreter has loaded after the command."""
    program = (
        "import sys\n"
        "from halos_tui.cli.main import main\n"
        f"main({list(arguments)!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [("--version",), ("list",), ("status", "a-run"), ("status", "a-run", "--json")]
)
def test_a_quick_look_imports_nothing_heavy(
    environment: dict[str, str], runs: Path, arguments: tuple[str, ...]
) -> None:
    MadeRun(runs).whole_round(1)
    loaded = _imports(environment, *arguments)
    assert not loaded & {*HEAVY, "pydantic", "rich", "psutil"}


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("init", "dpo")])
def test_help_and_init_import_no_machine_learning(
    environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    assert not _imports(environment, *arguments) & set(HEAVY)


def test_version_and_help_are_data(plain_halos: Halos) -> None:
    assert plain_halos("--version").stdout == "halos-tui 0.1.0\n"
    helped = plain_halos("--help")
    assert helped.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in helped.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("statsu",), "Did you mean 'status'?"),
        (("status",), "Missing argument 'RUN'"),
        (("status", "x", "--jsno"), "--jsno"),
        (("export", "x", "--to", "xml"), "halos"),
        (("demo", "--rounds", "0"), "--rounds"),
    ],
)
def test_usage_errors_are_exit_code_2(halos: Halos, arguments: tuple[str, ...], said: str) -> None:
    refused = halos(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_init_writes_a_run_file(halos: Halos) -> None:
    for size in ((), ("--full",)):
        written = halos("init", "dpo", "0.25", "3e-6", *size)
        assert written.returncode == 0
        table = tomllib.loads(written.stdout)
        assert table["train"]["loss"] == {"kind": "dpo", "beta": 0.25}
        assert table["train"]["lr"] == 3e-6
    preset = tomllib.loads(halos("init", "--preset", "llama-instruct-kto").stdout)
    assert preset["train"]["loss"]["kind"] == "kto"
    for arguments, word in ((("dpoo",), "dpo"), (("dpo", "--preset", "x"), "llama-dpo")):
        refused = halos("init", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert word in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--runs-dir", "RUNS", "list"),
        ("list", "--runs-dir", "RUNS"),
        ("--theme", "light", "--ascii", "--read-only", "list", "--runs-dir", "RUNS"),
        ("list", "--runs-dir", "RUNS", "--theme", "light", "--no-mouse"),
    ],
)
def test_options_of_the_program_stand_before_or_behind_the_verb(
    halos: Halos, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    MadeRun(tmp_path / "elsewhere", "there")
    given = (str(tmp_path / "elsewhere") if word == "RUNS" else word for word in arguments)
    assert "there" in halos(*given).stdout


@pytest.mark.parametrize(
    "arguments", [("--read-only", "abort", "x"), ("abort", "x", "--read-only")]
)
def test_read_only_goes_with_no_verb_that_changes_a_run(
    halos: Halos, arguments: tuple[str, ...]
) -> None:
    refused = halos(*arguments)
    assert refused.returncode == 2
    assert "abort changes a run, and --read-only forbids that" in refused.stderr


def test_commands_are_printed_as_they_can_be_called(
    environment: dict[str, str], runs: Path
) -> None:
    MadeRun(runs, "mine")
    bin = Path(sys.executable).parent
    for path, cwd, program in (
        (os.environ["PATH"], "/", "halos-tui"),
        ("/usr/bin:/bin", "/usr", f"{bin}/halos-tui"),
        ("/usr/bin:/bin", str(bin.parent), "bin/halos-tui"),
    ):
        refused = subprocess.run(
            [sys.executable, "-m", "halos_tui", "abort", "mine"],
            env={**environment, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert f"instead: {program} pause mine\n" in refused.stderr


def test_doctor_examines_the_machine_and_leaves_nothing(halos: Halos, runs: Path) -> None:
    examined = halos("doctor")
    assert examined.returncode in (0, 1)
    assert examined.returncode == ("\nproblem " in f"\n{examined.stdout}")
    assert "python" in examined.stdout
    assert list(runs.iterdir()) == []


def test_doctor_of_a_wrong_run_file_is_exit_code_2(plain_halos: Halos, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[policy]\npaht = 'x'\n")
    refused = plain_halos("doctor", "run.toml")
    assert refused.returncode == 2
    assert "did you mean 'path'?" in refused.stderr


def test_errors_show_control_characters_of_a_run_file_as_escapes(
    plain_halos: Halos, tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text('[policy]\n"\\u001b[31m" = 1\n')
    refused = plain_halos("run", "run.toml")
    assert refused.returncode == 2
    assert "\x1b" not in refused.stderr
    assert "\\x1b[31m" in refused.stderr


def test_a_file_that_cannot_be_opened_is_named_without_a_traceback(
    plain_halos: Halos, runs: Path, tmp_path: Path
) -> None:
    MadeRun(runs).whole_round(1)
    (tmp_path / "file").write_text("")
    refused = plain_halos("export", "a-run", "--to", "csv", "--output", "file/inside")
    assert refused.returncode == 1
    assert "file/inside: Not a directory" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_closed_pipe_ends_a_listing_quietly(environment: dict[str, str], runs: Path) -> None:
    for number in range(3):
        MadeRun(runs, f"run-{number}")
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "halos_tui", "list"],
        env=environment,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["status", "nobody", "--runs-dir", "/nowhere"]) == 4
    assert "halos-tui 0.1.0" in capsys.readouterr().out

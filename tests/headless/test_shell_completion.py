"""Tab in real shells: what bash, zsh and fish make of what the program answers; and how fast."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.main
from halos_backend.events import SettingsChanged

from halos_tui.cli.main import app
from halos_tui.cli.shells import LineComplete
from halos_tui.commands import NAME, VERBS
from halos_tui.settings.index import make_index
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.pty_output import Terminal

Ask = Callable[..., list[str]]


@pytest.fixture
def shell_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return {**environment, "HOME": str(home), "HALOS_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def ask(shell_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What the program answers to a line that ends at the cursor: values, without their help."""
    for name in ("HALOS_RUNS_DIR", "HALOS_CACHE_DIR"):
        monkeypatch.setenv(name, shell_environment[name])

    def values(line: str) -> list[str]:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        program = typer.main.get_command(app)
        said = LineComplete(program, {}, NAME, "_HALOS_TUI_COMPLETE").complete()
        lines = filter(None, said.splitlines())
        return [found if "\t:" in found else found.split("\t")[0] for found in lines]

    return values


def test_verbs_options_and_choices_are_completed(ask: Ask) -> None:
    assert ask("halos-tui ") == list(VERBS)
    assert ask("halos-tui st") == ["status"]
    assert ask("halos-tui status --j") == ["--json"]
    assert ask("halos-tui export x --to ") == ["halos", "trl", "csv"]
    assert ask("halos-tui logs x ") == ["sample", "label", "train"]
    assert ask("halos-tui init k") == ["kto"]
    assert ask("halos-tui demo --loss simp") == ["simpo"]
    assert ask("halos-tui init --preset llama-d") == ["llama-dpo"]
    assert ask("halos-tui --theme li") == ask("halos-tui attach x --theme li") == ["light"]
    assert ask("halos-tui run REA") == ["REA\t:files"]
    assert ask("halos-tui run x --runs-dir ") == ["\t:folders"]


def test_runs_and_rounds_are_those_of_the_runs_directory(
    ask: Ask, runs: Path, tmp_path: Path
) -> None:
    run = MadeRun(runs, "mine")
    run.whole_round(1)
    run.start_round(2)
    MadeRun(runs, "other")
    elsewhere = tmp_path / "elsewhere"
    MadeRun(elsewhere, "third")
    assert ask("halos-tui attach ") == ["mine", "other"]
    assert ask("halos-tui rm mine ") == ["other"]
    assert ask(f"halos-tui attach --runs-dir {elsewhere} ") == ["third"]
    assert ask(f"halos-tui --runs-dir {elsewhere} attach t") == ["third"]
    assert ask("halos-tui logs mine --round ") == ["1", "2"]
    assert ask("halos-tui set mine --from-round ") == ["2", "3"]
    assert ask("halos-tui logs nobody --round ") == []


def test_settings_are_completed_with_their_values_and_those_of_the_run(
    ask: Ask, runs: Path
) -> None:
    run = MadeRun(runs, "mine", loss="kto")
    assert ask("halos-tui run x --set train.sch") == ["train.schedule=", "train.schedule_scope="]
    assert ask("halos-tui set mine train.schedule=c") == [
        "train.schedule=constant",
        "train.schedule=cosine",
    ]
    loss = ask("halos-tui set mine train.loss.")
    assert "train.loss.desirable_weight=" in loss
    assert "train.loss.humanline.sync_every=" in loss
    assert "train.loss.tau=" not in loss, "ipo's"
    assert ask("halos-tui set mine loop.keep_best=") == [
        "loop.keep_best=false",
        "loop.keep_best=true",
        "loop.keep_best=default",
    ]
    as_it_is = ask("halos-tui set mine loop.num_rounds=")
    assert as_it_is == ["loop.num_rounds=2", "loop.num_rounds=default"]
    changes = {"loop.num_rounds": (2, 3)}
    run.say(SettingsChanged(t=STARTED_T, request_id="r", from_round=1, changes=changes))
    assert ask("halos-tui set mine loop.num_rounds=b") == ["loop.num_rounds=before"]
    assert "guards.disk.action=pause" in ask("halos-tui set mine guards.disk.action=")
    kinds = ask("halos-tui fork mine --round 1 --set train.loss.kind=")
    assert {"train.loss.kind=dpo", "train.loss.kind=kto", "train.loss.kind=grpo"} <= set(kinds)


def test_the_index_of_settings_follows_the_schema(
    shell_environment: dict[str, str], tmp_path: Path, ask: Ask
) -> None:
    by_path = {entry.path: entry for entry in make_index()}
    assert by_path["train.lr"].help == "Peak learning rate"
    assert by_path["train.schedule"].values == ("constant", "linear", "cosine")
    assert by_path["label.judge.kind"].values == ("reward_model", "function", "api")
    assert by_path["sample.temperature"].values == ()
    defaults = {path: entry.default for path, entry in by_path.items()}
    assert defaults["train.lr"] == "5e-6"
    assert (defaults["train.keep_optimizer"], defaults["policy.path"]) == ("unset", "")
    kept = tmp_path / "cache" / "settings.json"
    ask("halos-tui init k")
    made = json.loads(kept.read_bytes())
    kept.write_text(json.dumps({**made, "digest": "of an older schema", "entries": []}))
    assert ask("halos-tui init k") == ["kto"]
    kept.write_text("torn")
    assert ask("halos-tui init k") == ["kto"]


def test_completion_imports_no_pydantic_once_the_index_is_kept(
    ask: Ask, shell_environment: dict[str, str], runs: Path
) -> None:
    MadeRun(runs, "mine")
    ask("halos-tui set mine tr")
    program = (
        "import sys, os\n"
        "from halos_tui.cli.main import main\n"
        "main([])\n"
        "print(*sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    for line in ("halos-tui ", "halos-tui set mine tr", "halos-tui attach ", "halos-tui run "):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **shell_environment,
                "_HALOS_TUI_COMPLETE": "complete_lines",
                "_TYPER_COMPLETE_ARGS": line,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        loaded = set(done.stderr.split())
        assert "halos_tui" in loaded
        assert not loaded & {"pydantic", "rich", "textual", "torch", "numpy"}, line


def _shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def bash(shell_environment: dict[str, str], runs: Path) -> Iterator[Terminal]:
    """An interactive bash whose completion is set up as --show-completion says."""
    MadeRun(runs, "mine")
    env = {**shell_environment, "PS1": "ready> "}
    with Terminal(
        [_shell("bash"), "--norc", "--noprofile", "-i"], env=env, columns=200
    ) as terminal:
        terminal.press("source <(halos-tui --show-completion); echo set-$((1 + 1))\r")
        terminal.wait_for("set-2")
        yield terminal


def test_bash_completes_words_and_values_behind_an_equals_sign(bash: Terminal) -> None:
    for typed, completed in (
        ("halos-tui stat\t", "halos-tui status "),
        ("mi\t", "status mine "),
    ):
        bash.press(typed)
        bash.wait_for(completed)
    bash.press("\x15halos-tui set mine train.schedule_\t")
    bash.wait_for("set mine train.schedule_scope=")
    bash.press("rou\t")
    bash.wait_for("train.schedule_scope=round ")
    bash.press("loop.keep_best=\t\t")
    bash.wait_for("false")
    bash.wait_for("true")
    bash.press("\x15halos-tui run --runs-dir /us\t")
    bash.wait_for("/usr/")


def test_zsh_completes_words_and_values(shell_environment: dict[str, str], runs: Path) -> None:
    MadeRun(runs, "mine")
    env = {**shell_environment, "PS1": "ready> "}
    with Terminal([_shell("zsh"), "-f", "-i"], env=env, columns=200) as terminal:
        setup = "autoload -Uz compinit; compinit -u -D; source <(halos-tui --show-completion)"
        terminal.press(f"{setup}; echo set-$((1 + 1))\r")
        terminal.wait_for("set-2")
        terminal.press("halos-tui stat\t")
        terminal.wait_for("us ")
        terminal.press("mi\t")
        terminal.wait_for("ne ")
        terminal.press("\x15halos-tui set mine train.schedule_\t")
        terminal.wait_for("scope=")
        terminal.press("rou\t\x01echo typed: \r")
        terminal.wait_for("typed: halos-tui set mine train.schedule_scope=round")


def test_fish_completes_words_and_values_with_their_help(
    shell_environment: dict[str, str], runs: Path, tmp_path: Path
) -> None:
    MadeRun(runs, "mine")
    (tmp_path / "run.toml").write_text("")
    lines = (
        "halos-tui stat",
        "halos-tui status mi",
        "halos-tui set mine train.schedule_scope=r",
        "halos-tui run run.t",
    )
    script = "; ".join(
        ["halos-tui --show-completion | source", *(f"complete -C {line!r}" for line in lines)]
    )
    done = subprocess.run(
        [_shell("fish"), "--no-config", "-c", script],
        env=shell_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "status\tShow how a run stands.",
        "mine",
        "train.schedule_scope=round",
        "train.schedule_scope=run\tas it is now",
        "run.toml",
    ]


@pytest.mark.parametrize(
    ("name", "script", "start"),
    [
        ("bash", ".bash_completions/halos-tui.sh", ".bashrc"),
        ("zsh", ".zfunc/_halos-tui", ".zshrc"),
        ("fish", ".config/fish/completions/halos-tui.fish", None),
    ],
)
def test_completion_is_installed_for_the_shell_it_is_called_from(
    shell_environment: dict[str, str], name: str, script: str, start: str | None
) -> None:
    home = Path(shell_environment["HOME"])
    subprocess.run(
        [_shell(name), "-c", "halos-tui --install-completion; true"],
        env={**shell_environment, "XDG_CONFIG_HOME": str(home / ".config")},
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    assert "complete_lines" in (home / script).read_text()
    if start is not None:
        assert Path(script).parent.name in (home / start).read_text()

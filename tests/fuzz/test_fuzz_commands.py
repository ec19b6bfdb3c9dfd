"""Whatever is in a run file, an argument or a run's directory, no verb ends in a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from halos_backend.client import ask, start
from halos_backend.config.schema import RunSettings
from halos_backend.config.toml_text import dump_toml
from halos_backend.errors import ExitCode, HalosError
from halos_backend.stages.prepare.__main__ import main as prepare_main
from halos_backend.store.run_dir import RunDir

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from tests.fuzz.conftest import Good
from tests.support.cases import call, halos, restore, run_cases
from tests.support.mutations import VALUES, as_json, mutate_bytes, mutate_value

pytestmark = [pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]

COMPLETED, FAILED, USAGE = ExitCode.COMPLETED, ExitCode.FAILED, ExitCode.USAGE


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the inputs runs in this process, and nothing else is started."""

    def prepare_here(run_dir: RunDir, _report: object, options: Sequence[str]) -> None:
        done = call(prepare_main, "--run-dir", str(run_dir.path), *options)
        if done.code not in (COMPLETED, USAGE):
            raise HalosError(done.stderr)

    def refuse(run_dir: RunDir, *_others: object, **_options: object) -> Any:
        raise HalosError(f"{run_dir.name} gets no supervisor in this test")

    monkeypatch.setattr(start, "_run_prepare", prepare_here)
    monkeypatch.setattr(start, "start_supervisor", refuse)
    monkeypatch.setattr(ask, "ask", refuse)


def as_toml(draw: random.Random, table: Any) -> bytes:
    """A mutated table where TOML can say it, else mutated text."""
    if isinstance(table, dict) and draw.random() < 0.5:
        try:
            return dump_toml(mutate_value(draw, table)).encode()
        except (TypeError, AttributeError, RecursionError, UnicodeEncodeError):
            pass
    return mutate_bytes(draw, dump_toml(table).encode())


def test_any_run_file(good: Good, tmp_path: Path) -> None:
    settings = RunSettings.model_validate(good.settings()).model_dump(mode="json")

    def case(draw: random.Random) -> str:
        path = tmp_path / "run.toml"
        path.write_bytes(as_toml(draw, draw.choice([settings, good.settings()])))
        if draw.random() < 0.2:
            return halos("doctor", str(path)).complaint(COMPLETED, FAILED, USAGE)
        return halos("run", str(path), "--dry-run").complaint(COMPLETED, USAGE)

    run_cases("run files", 0.12, case)


KEYS = (
    "train.lr", "train.loss.kind", "train.loss", "train.lora", "train.lora.r", "loop.num_rounds",
    "loop.seed", "label.judge.function", "label.feedback.threshold", "guards.kl.above",
    "guards.x.metric", "guards", "sample.stop", "notify.command", "policy.path", "launch.devices",
    "policy", "", ".", "a.b.c", "train..lr", "prompts.path", "sample.vllm.arguments.x",
)  # fmt: skip
TEXTS = (
    "", "default", "1", "-1", "0.1", "nan", "inf", "1e999", "true", "[]", "[1, 2", "{}", "{a = 1}",
    '"', "'x'", "kto", "none", "9" * 5_000, "[" * 2_000, "a\x00b", "\udcff", "2026-01-01", "=",
    "\n",    "~nobody-of-that-name/x", "/dev/zero", "\U0001f600",
)  # fmt: skip


def assignment(draw: random.Random) -> str:
    value = draw.choice(TEXTS) if draw.random() < 0.8 else str(draw.choice(VALUES))
    return draw.choice(["{}={}", "{}={}", "{}={}", "{}{}"]).format(draw.choice(KEYS), value)


def test_any_override(good: Good, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(dump_toml(good.settings()))

    def case(draw: random.Random) -> str:
        given = [word for _ in range(draw.randint(1, 2)) for word in ("--set", assignment(draw))]
        return halos("run", str(path), "--dry-run", *given).complaint(COMPLETED, USAGE)

    run_cases("overrides", 0.08, case)


def verb(draw: random.Random, run: str) -> list[str]:
    """A verb with arguments, some of them nonsense; none that waits for anything."""
    number = draw.choice(["1", "2", "0", "-1", "99999999999999999999", "x", ""])
    nonsense = draw.choice(["x", "..", "\udcff", "a/b", "\U0001f600", "--what", "("])
    run = run if draw.random() < 0.93 else nonsense
    others: list[list[str]] = [
        ["status", run], ["status", run, "--json"], ["list"], ["list", "--json"], ["du"],
        ["completions", run], ["completions", run, "--round", number], ["logs", run],
        ["completions", run, "--json"], ["logs", run, draw.choice(["sample", "train", nonsense])],
        ["logs", run, "--round", number], ["export", run, "--to", "halos"],
        ["export", run, "--to", "trl"], ["export", run, "--to", "csv"],
        ["export", run, "--to", nonsense], ["set", run, assignment(draw)],
        ["set", run, assignment(draw), "--from-round", number],
        ["fork", run, "--round", number, "--set", assignment(draw)],
        ["extend", run, "--rounds", number], ["pause", run], ["resume", run], ["retry", run],
        ["doctor", nonsense], ["init", nonsense], ["init", "dpo", number, number], [nonsense],
    ]  # fmt: skip
    return draw.choice(others)


def damage(draw: random.Random, folder: Path) -> None:
    """One file of a run's directory is changed, gone, a directory, or not readable as text."""
    path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = path.read_bytes()
    match draw.random():
        case share if share < 0.1:
            path.unlink()
        case share if share < 0.2:
            path.unlink()
            path.mkdir()
        case share if share < 0.6:
            lines = content.splitlines(keepends=True) or [b"{}\n"]
            at = draw.randrange(len(lines))
            lines[at] = _mutated_line(draw, lines[at])
            path.write_bytes(b"".join(lines))
        case _:
            path.write_bytes(mutate_bytes(draw, content))


def _mutated_line(draw: random.Random, line: bytes) -> bytes:
    try:
        return as_json(mutate_value(draw, json.loads(line))) + b"\n"
    except ValueError:
        return mutate_bytes(draw, line)


@pytest.mark.parametrize("is_complete", [True, False], ids=["completed", "lost"])
def test_any_verb_on_any_run(tmp_path: Path, is_complete: bool) -> None:
    shape = Shape(num_rounds=2, num_groups=2, num_kept=2, num_readings=3)
    good_run = make_run(tmp_path / "good" / "a-run", shape, is_complete=is_complete).path
    run = tmp_path / "runs" / "a-run"

    def case(draw: random.Random) -> str:
        restore(good_run, run)
        if draw.random() < 0.75:
            damage(draw, run)
        given = verb(draw, "a-run")
        done = halos(*given)
        said = done.complaint(*ExitCode)
        return f"{given}: {said}" if said else ""

    run_cases(f"verbs, complete {is_complete}", 0.075, case)

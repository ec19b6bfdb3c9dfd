"""Offers what a new run can begin with: presets, `init`'s templates, the demo, a run file, a run.

It reads files and, for the demo, builds models in another process on first use; so the app calls it
in threads only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.config.changes import forget_defaults
from halos_backend.config.load import defaults_taken, overridden_keys, parse_settings, resolve
from halos_backend.config.presets import init_file, preset_names, preset_notes, preset_settings
from halos_backend.config.schema import RunSettings, TrainSettings
from halos_backend.config.shape import kinds_of
from halos_backend.config.toml_text import dump_toml, parse_toml, read_run_file
from halos_backend.doctor import examine_settings
from halos_backend.errors import ExitCode, HalosError, UsageError
from halos_backend.interpreters.programs import program, program_environment
from halos_backend.settings_json import apply_changes
from halos_backend.store.registry import check_readable, list_runs, load_state
from halos_backend.store.run_dir import RunDir

from halos_tui.formatting import visible
from halos_tui.new_run.checking import Report
from halos_tui.settings.form import Checked, SettingsForm, checked
from halos_tui.settings.rows import INPUTS, OFTEN

DEMO_LOSSES = ("dpo", "kto", "grpo")
DEMO_ROUNDS = 3
MOST_RUNS = 50


@dataclass(frozen=True)
class Start:
    """Holds the tables of a run file, and where its relative paths are looked for."""

    label: str
    table: Mapping[str, Any]
    directory: Path

    def settings(self, assignments: Sequence[str]) -> RunSettings:
        """Returns the settings with the edits. Raises SettingsError with everything that is
        wrong.
        """
        table = forget_defaults(self.table, overridden_keys(assignments))
        return resolve(
            parse_settings(
                table, source=self.label, overrides=assignments, directory=self.directory
            )
        )

    def form(self) -> SettingsForm:
        return SettingsForm(
            self.table,
            self.check,
            often=(*OFTEN, *INPUTS),
            directories=(Path.cwd(), self.directory),
        )

    def check(self, assignments: Sequence[str]) -> Checked:
        return checked(lambda: self._checked(assignments))

    def _checked(self, assignments: Sequence[str]) -> Checked:
        settings = self.settings(assignments)
        resolved = settings.model_dump(mode="json")
        return Checked(
            consequences=tuple(defaults_taken(assignments, resolved)),
            settings=resolved,
            findings=tuple(examine_settings(settings, prepared=None)),
        )

    def config_text(self, settings: RunSettings, assignments: Sequence[str]) -> str:
        """Returns the run file that comes of it."""
        head = [f"# made in the app from {visible(self.label)}"]
        head += [f"# changed: {assignment!r}" for assignment in assignments]
        return "\n".join(head) + "\n\n" + dump_toml(settings)


@dataclass(frozen=True)
class Offer:
    """This is something to begin with. `load` gives it, and says how far it is."""

    label: str
    about: str
    load: Callable[[Report], Start]


def offers(root: Path) -> list[Offer]:
    """Returns all that there is, but for run files, of which only the person knows."""
    return [*_demos(), *_runs(root), *_presets(), *_templates()]


def start_from_file(path: Path) -> Start:
    """Reads a run file. Raises UsageError for a file that cannot be read or is no TOML."""
    path = Path(os.path.expanduser(path))  # noqa: PTH111  Path's own raises for an unknown user
    table = parse_toml(read_run_file(path), source=str(path))
    return Start(str(path), table, path.absolute().parent)


def start_from_run(run_dir: RunDir) -> Start:
    """Returns the settings that hold for the round that comes next. Raises HalosError."""
    state = check_readable(load_state(run_dir), run_dir)
    table = dict(state.settings_of(state.num_rounds + 1))
    # the number was set for another machine, or for this one at that time
    table = apply_changes(table, {"launch.num_threads": (None, None)})
    return Start(f"the run {run_dir.name}", table, run_dir.path)


def _demos() -> list[Offer]:
    return [
        Offer(
            f"demo {loss}",
            "the embedded task with its tiny models: no GPU, no network",
            partial(_demo, loss),
        )
        for loss in DEMO_LOSSES
    ]


def _demo(loss: str, report: Report) -> Start:
    return Start(f"demo {loss}", demo_table(loss, DEMO_ROUNDS, report), Path.cwd())


def _runs(root: Path) -> list[Offer]:
    return [
        Offer(f"run {run_dir.name}", "its settings as they are now", partial(_run, run_dir))
        for run_dir in list_runs(root)[:MOST_RUNS]
    ]


def _run(run_dir: RunDir, _report: Report) -> Start:
    return start_from_run(run_dir)


def _presets() -> list[Offer]:
    return [
        Offer(f"preset {name}", _one_line(preset_notes(name)), partial(_preset, name))
        for name in preset_names()
    ]


def _preset(name: str, _report: Report) -> Start:
    loss = preset_settings(name)["train"]["loss"]["kind"]
    label = f"preset {name}"
    return Start(label, parse_toml(init_file(loss, preset=name), source=label), Path.cwd())


def _templates() -> list[Offer]:
    losses = kinds_of(TrainSettings.model_fields["loss"])
    return [
        Offer(f"init {loss}", _one_line(table.__doc__), partial(_template, loss))
        for loss, table in losses.items()
    ]


def _template(loss: str, _report: Report) -> Start:
    label = f"init {loss}"
    return Start(label, parse_toml(init_file(loss), source=label), Path.cwd())


def _one_line(text: str | None) -> str:
    return " ".join(word for word in (text or "").split() if word != "#")


def demo_table(loss: str, rounds: int, report: Report) -> dict[str, Any]:
    """Returns the tables of the demo's run file. Builds its models if need be.

    Raises UsageError for a loss that the demo has not, HalosError where it cannot be set up.
    """
    last = ""
    with (
        tempfile.TemporaryFile() as errors,  # a pipe that nobody drains would stop the child
        subprocess.Popen(
            program("halos_backend.embedded.demo", "--loss", loss, "--rounds", rounds),
            cwd="/",
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        for line in child.stdout or ():
            match line.split(maxsplit=3):
                case ["progress", done, total, what]:
                    report(what.strip(), int(done), int(total))
                case _:
                    last = line  # the settings come in the last line
        child.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if child.returncode == ExitCode.USAGE:
        raise UsageError(said)
    if child.returncode != 0:
        raise HalosError(f"the demo could not be set up (exit code {child.returncode}):\n{said}")
    table: dict[str, Any] = msgspec.json.decode(last)
    return table

"""A run of the demo, and apps that watch it. Nothing of it outlives `close`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.command_line import run_halos
from tests.support.journal import Event, read_events
from tests.support.reference import fake_stages
from tests.support.terminal import Terminal
from tests.support.victims import MARK, Found, find, of_role
from tests.support.waiting import wait_for

SMALL = ("--set", "loop.prompts_per_round=16")
"""Rounds of a few seconds, most of which is their stages' start."""


class DemoRun:
    """`folder` is the run's own: for its runs directory and for a person's key map.

    Where it has no models, fake stages last as long, and leave others the processor.
    """

    def __init__(self, folder: Path, name: str = "sorting", *, has_models: bool = True) -> None:
        self.name = name
        self._stages = {} if has_models else fake_stages()
        self.runs = folder / "runs"
        self.config = folder / "config"
        self.runs.mkdir()
        self._mark = str(folder)
        self._terminals: list[Terminal] = []

    @property
    def path(self) -> Path:
        return self.runs / self.name

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        return {
            **kept,
            MARK: self._mark,
            "HALOS_RUNS_DIR": str(self.runs),
            "XDG_CONFIG_HOME": str(self.config),
            "OMP_NUM_THREADS": "1",
            "COLORTERM": "truecolor",
            "TZ": "UTC",
            **self._stages,
        }

    def begin(self, *, num_rounds: int = 1000) -> None:
        """Start it without an app; it goes on by itself for as long as any test lasts."""
        detached = ["--no-ui", "--detach", "--name", self.name, "--rounds", str(num_rounds)]
        self.halos("demo", *detached, *SMALL)
        self.wait_for_event("StageStarted")

    def halos(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end, without a terminal."""
        return run_halos(*arguments, environment=self.environment)

    def open(
        self, *arguments: str, columns: int = 120, lines: int = 40, **environment: str
    ) -> Terminal:
        """Run a command of ours on a terminal."""
        terminal = Terminal(
            [sys.executable, "-m", "halos_tui", *arguments],
            environment={**self.environment, **environment},
            columns=columns,
            lines=lines,
        )
        self._terminals.append(terminal)
        return terminal

    def attach(self, **options: Any) -> Terminal:
        """An app on this run, once it shows it."""
        terminal = self.open("attach", self.name, **options)
        terminal.wait_for(self.name, "running")
        return terminal

    @property
    def events(self) -> list[Event]:
        journal = self.path / "events.jsonl"
        return read_events(journal) if journal.exists() else []

    def num_events(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.events)

    def wait_for_event(self, kind: str, *, after: int = 0, **fields: Any) -> Event:
        """The first such event but `after` with these fields."""

        def found() -> Event | None:
            return next(
                (
                    e
                    for e in self.events[after:]
                    if e["type"] == kind and fields.items() <= e.items()
                ),
                None,
            )

        event = wait_for(found, f"{kind} {fields}")
        assert event is not None
        return event

    @property
    def apps(self) -> list[Found]:
        """Our commands that still run, and what else they started but the run itself."""
        found = find(self._mark)
        return [*of_role(found, "client"), *of_role(found, "other")]

    def goes_on(self) -> None:
        """Fails unless another stage starts under the same supervisor, and none has failed."""
        self.wait_for_event("StageStarted", after=len(self.events))
        assert self.num_events("SupervisorStarted") == 1
        assert self.num_events("StageFailed") == 0
        assert self.num_events("RunPaused") == 0

    def close(self) -> None:
        for terminal in self._terminals:
            with contextlib.suppress(AssertionError):
                terminal.__exit__(None, None, None)
        if self.path.exists():
            self.halos("abort", self.name, "--yes")
        for process in find(self._mark):
            process.signal(9)

"""One run that is disturbed: started, struck, revived, followed to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from halos_backend.errors import ExitCode
from halos_backend.events import Stage
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState

from tests.support.journal import Event, read_events, read_state
from tests.support.reference import NAME, Reference, copy_run
from tests.support.schedule import Kill
from tests.support.victims import MARK, Found, Role, find, of_role, without_unborn
from tests.support.witness import Witness

DEADLINE_S = 150.0
POLL_S = 0.005
PATIENT_POLL_S = 0.05


class ChaosRun:
    """`path` is the case's own folder; `runs` is where its run directory goes."""

    def __init__(
        self,
        reference: Reference,
        path: Path,
        *,
        runs: Path | None = None,
        begin_with: Path | None = None,
    ) -> None:
        self.reference = reference
        self.runs = path / "runs" if runs is None else runs
        self.path = copy_run(reference.fresh if begin_with is None else begin_with, self.runs)
        self.mark = str(path)
        self.num_kills = 0
        self.num_killed = 0
        self.num_revivals = 0
        self._log = (path / "clients.log").open("ab")
        self._clients: list[subprocess.Popen[bytes]] = []
        self._launched: list[subprocess.Popen[bytes]] = []
        self._prefixes: list[bytes] = []
        self._events: tuple[int, list[Event]] = (-1, [])
        self.witness = Witness(self.mark, self.path)

    # --- starting --------------------------------------------------------------------------

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of ours that follows the run; the newest one is started again if it leaves."""
        command = [sys.executable, "-m", "halos_tui", *arguments]
        client = self.launch([*command, "--runs-dir", str(self.runs)])
        self._clients.append(client)
        return client

    def launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Any program, in a session of its own; its output goes to the log of the case."""
        process = subprocess.Popen(
            command,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._launched.append(process)
        return process

    def environment(self) -> dict[str, str]:
        own = {MARK: self.mark, "OMP_NUM_THREADS": "1", "HALOS_GUARDIAN_DELAY_S": "0.1"}
        return {**os.environ, **own, **self.reference.environment}

    def begin(self) -> subprocess.Popen[bytes]:
        """The client that starts the supervisor and follows the run."""
        return self.start("resume", NAME, "--no-ui")

    def command(self, *arguments: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Run a command of ours to its end: its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "halos_tui", *arguments, "--runs-dir", str(self.runs)],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    # --- looking ---------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """What the journal holds; it is read again when it has grown, for waiting asks often."""
        size = self.dir.events.stat().st_size
        if size != self._events[0]:
            self._events = (size, read_events(self.dir.events))
        return self._events[1]

    @property
    def state(self) -> RunState:
        return read_state(self.dir.events)

    @property
    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def processes(self) -> list[Found]:
        return find(self.mark)

    @property
    def dir(self) -> RunDir:
        return RunDir(self.path)

    def attempt(self, round: int, stage: Stage, number: int) -> AttemptDir:
        return self.dir.attempt(round, stage, number)

    def num_events(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.events)

    def in_charge(self) -> list[Found]:
        """What lives of guardian, supervisor and stage."""
        return [p for p in self.processes() if p.role not in ("client", "other")]

    def wait_for(
        self,
        condition: Callable[[], Any],
        what: str,
        *,
        deadline_s: float = DEADLINE_S,
        poll_s: float = POLL_S,
        revive: bool = True,
    ) -> Any:
        """The first true value; AssertionError with the clients' words after the deadline."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if value := condition():
                return value
            if revive:
                self._revive()
            time.sleep(poll_s)
        raise AssertionError(f"{what}: not within {deadline_s} s\n{self.evidence()}")

    def evidence(self) -> str:
        """What a person needs to see of a case that went wrong."""
        events = [f"{e['t']:.2f} {e['type']} {_about(e)}" for e in self.events[-40:]]
        log = self.path / "supervisor.log"
        said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        alive = [f"{p.role} {p.pid} {b' '.join(p.arguments)[:120]!r}" for p in self.processes()]
        parts = ["-- clients", self.log[-3000:], "-- supervisor.log", said, "-- journal", *events]
        return "\n".join([*parts, "-- alive", *alive])

    # --- striking --------------------------------------------------------------------------

    def wait_for_event(self, kind: str, **fields: Any) -> Event:
        """The first event of that type with these fields."""
        return self.wait_for(
            lambda: next(
                (e for e in self.events if e["type"] == kind and fields.items() <= e.items()), None
            ),
            f"{kind} {fields}",
        )

    def reach(self, kill: Kill) -> None:
        """Wait for the moment that a kill names."""
        reference = self.reference
        started = self.wait_for_event("StageStarted", round=kill.round, stage=kill.stage)
        if not kill.by_events:
            time.sleep(kill.share * reference.elapsed_s(kill.round, kill.stage))
            return
        count = int(kill.share * reference.num_attempt_events(kill.round, kill.stage)) + 1
        journal = self.attempt(kill.round, kill.stage, started["attempt"]).events
        self.wait_for(
            lambda: (
                (journal.exists() and journal.read_bytes().count(b"\n") >= count)
                or not self._is_running(started)
            ),
            f"{count} events in {journal}",
        )

    def strike(self, *roles: Role, number: signal.Signals = signal.SIGKILL) -> list[Found]:
        """Signal the living processes of these roles, in this order; returns them."""
        found = without_unborn(self.processes())
        self.keep_journal()
        struck = [p for role in roles for p in of_role(found, role) if p.signal(number)]
        if number == signal.SIGKILL:
            self.num_kills += 1
            self.num_killed += len(struck)
            self.wait_for(
                lambda: not any(p.is_alive for p in struck), "death", deadline_s=30, revive=False
            )
        return struck

    def keep_journal(self) -> None:
        """Remember the journal's whole lines: it may only grow."""
        journal = self.dir.events
        content = journal.read_bytes() if journal.exists() else b""
        self._prefixes.append(content[: content.rfind(b"\n") + 1])

    @property
    def prefixes(self) -> list[bytes]:
        return self._prefixes

    def _is_running(self, started: Event) -> bool:
        """Whether the attempt has not ended."""
        place = (started["round"], started["stage"])
        later = [e for e in self.events if (e.get("round"), e.get("stage")) == place]
        return later[-1]["type"] in ("StageStarted", "StageAdopted", "StageStalled") and (
            later[-1]["attempt"] == started["attempt"]
        )

    # --- to the end ------------------------------------------------------------------------

    def finish(self) -> None:
        """Follow the run to its end as its owner would: whoever dies is started again."""
        self.wait_for(lambda: self.num_events("RunCompleted"), "the end", poll_s=PATIENT_POLL_S)
        self.wait_until_all_leave()
        for client in self._clients:
            client.wait(timeout=60)

    def wait_until_all_leave(self) -> None:
        """Wait until nothing of guardian, supervisor and stages lives."""
        self.wait_for(
            lambda: not self.in_charge(), "all leave", poll_s=PATIENT_POLL_S, revive=False
        )

    def _revive(self) -> None:
        """When the last client has left an unfinished run, follow it again."""
        if not self._clients or self._clients[-1].poll() is None:
            return
        code = self._clients[-1].returncode
        if code == ExitCode.COMPLETED:
            return
        allowed = (ExitCode.UNFINISHED, ExitCode.RUN_IN_USE, -signal.SIGKILL)
        assert code in allowed, f"exit code {code}\n{self.evidence()}"
        self.num_revivals += 1
        assert self.num_revivals < 60, self.evidence()
        if of_role(self.processes(), "supervisor"):
            self.start("watch", NAME)
        else:
            self.begin()

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.witness.stop()
        left = self.processes()
        for process in left:
            process.signal(signal.SIGKILL)
        for process in self._launched:
            process.wait(timeout=60)
        self._log.close()


def _about(event: Event) -> str:
    keys = ("round", "stage", "attempt", "reason", "request_id", "generation")
    return " ".join(f"{key}={event[key]}" for key in keys if key in event)

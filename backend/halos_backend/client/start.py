"""Creates runs and starts their supervisors; what a client calls before it only watches."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from halos_backend import SCHEMA_VERSION, __version__, atomic, clock
from halos_backend.errors import ExitCode, HalosError, RunInUseError, UsageError
from halos_backend.events import ForkOrigin, RunCreated
from halos_backend.findings import Prepared, RightInputs, refuse_inputs
from halos_backend.interpreters.programs import program, program_environment
from halos_backend.store.identity import lock_holder, send_signal
from halos_backend.store.reader import tail_lines
from halos_backend.store.run_dir import RunDir, check_run_name, command_for
from halos_backend.store.writer import EventWriter

if TYPE_CHECKING:
    from halos_backend.config.schema import LaunchSettings

GUARDIAN = (Path(__file__).parents[1] / "supervisor/processes/guardian.py").resolve()

MOST_GUARDIANS = 3
"""Starts of one that is killed before its supervisor has begun. Its supervisor may live all the
same, and is then the one that holds the run."""

_started: list[subprocess.Popen[bytes]] = []
"""Holds the guardians that this process started, so that those that ended do not stay zombies."""

Report = Callable[[int, int], None]
"""Is called with (done, total) prompts while they are prepared."""


def refuse_busy(launch: LaunchSettings, environment: Mapping[str, str] = os.environ) -> None:
    """Raises RunInUseError where a new run's GPUs are another's and it is not to wait for them."""
    # pydantic takes 0.1 s, and whoever only asks a run for something makes none
    from halos_backend.supervisor.gpus.reservation import find_busy

    if launch.when_devices_busy == "queue":
        return
    if (busy := find_busy(launch, environment)) is not None:
        raise RunInUseError(
            f"{busy}: name other GPUs in launch.devices, or let the run wait for these with"
            " --set launch.when_devices_busy=queue"
        )


def create_run(
    root: Path,
    name: str,
    *,
    config_text: str,
    settings: Mapping[str, Any],
    report: Report = lambda _done, _total: None,
) -> RunDir:
    """Checks the inputs, freezes the prompts, and makes the run directory in one step.

    `settings` are resolved settings as plain JSON. Nothing is left behind on failure. Raises
    InputsError for wrong inputs, UsageError for a taken name.
    """
    with new_run_dir(root, name) as unfinished:
        prepared = prepare_inputs(unfinished, config_text, settings, report)
        write_first_event(unfinished, name, settings, refuse_inputs(prepared))
    return RunDir(root / name)


@contextmanager
def new_run_dir(root: Path, name: str) -> Iterator[RunDir]:
    """Yields a hidden directory to make the run in; it gets its name at the end, and is gone on
    failure.

    Raises UsageError for a name that no run can have, or that is taken, and for a place where
    nothing can be written.
    """
    check_run_name(root, name)
    unfinished = RunDir(root / f".{name}.creating-{os.getpid()}")
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished.path.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(
            f"no run can be made in {root}: {error.strerror}",
            fix="name another folder with --runs-dir",
        ) from error
    try:
        yield unfinished
        check_run_name(root, name)
        unfinished.path.rename(root / name)
    except BaseException:
        shutil.rmtree(unfinished.path, ignore_errors=True)
        raise
    atomic.fsync_dir(root)


def prepare_inputs(
    run_dir: RunDir,
    config_text: str,
    settings: Mapping[str, Any],
    report: Report,
    *,
    has_prompts: bool = False,
) -> Prepared:
    """Writes the run's settings into `run_dir`, checks the inputs there, and returns what it found.

    Problems are among its `findings` (see `refuse_inputs`). Raises HalosError where nothing was
    found out.

    `has_prompts`: a forked run's prompts are there already.
    """
    for folder in (run_dir.control, run_dir.answered):
        folder.mkdir(mode=0o700)
    atomic.write_bytes(run_dir.config, config_text.encode())
    write_resolved(run_dir, settings)
    _run_prepare(run_dir, report, ["--has-prompts"] if has_prompts else [])
    return read_prepared(run_dir)


def read_prepared(run_dir: RunDir) -> Prepared:
    """Returns what the check of the inputs found."""
    return msgspec.json.decode(run_dir.prepared.read_bytes(), type=Prepared)


def write_resolved(run_dir: RunDir, settings: Mapping[str, Any]) -> None:
    resolved = msgspec.json.format(msgspec.json.encode(settings)) + b"\n"
    atomic.write_bytes(run_dir.resolved_config, resolved)


def start_supervisor(run_dir: RunDir) -> None:
    """Starts a supervisor that outlives this process; returns once it has written to the journal.

    Raises RunInUseError when another one holds it, HalosError with its log when it does not start.
    """
    if (holder := lock_holder(run_dir)) is not None:
        raise RunInUseError(
            f"the run {run_dir.name} is supervised already by process {holder.pid} on"
            f" {holder.host}",
            fix=command_for(run_dir, "watch"),
        )
    size = run_dir.events.stat().st_size
    logged = run_dir.supervisor_log.stat().st_size if run_dir.supervisor_log.exists() else 0
    code: int | None = None
    for _ in range(MOST_GUARDIANS):
        code = _exit_before_beginning(_start_detached(run_dir), run_dir, size)
        if not code:
            return
        if code > 0:
            break
    reason = run_dir.supervisor_log.read_bytes()[logged:].decode(errors="replace").strip()
    if code == ExitCode.RUN_IN_USE:
        raise RunInUseError(reason)
    reason = reason or f"its guardian ended with exit code {code} and said nothing"
    raise HalosError(f"the supervisor of {run_dir.name} did not start:\n{reason}")


def _exit_before_beginning(
    guardian: subprocess.Popen[bytes], run_dir: RunDir, size: int
) -> int | None:
    """Wait until the journal is larger than `size`; return the exit code of a guardian that has
    ended before.
    """
    while run_dir.events.stat().st_size == size:
        if (code := guardian.poll()) is not None:
            return code
        time.sleep(0.02)
    return None


def _start_detached(run_dir: RunDir) -> subprocess.Popen[bytes]:
    path = run_dir.path.resolve()
    try:
        log = run_dir.supervisor_log.open("ab")
    except OSError as error:
        raise HalosError(f"the run {run_dir.name} cannot be supervised: {error}") from error
    with log:
        child = subprocess.Popen(
            _guarded_supervisor(path),
            cwd=path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _started[:] = [earlier for earlier in _started if earlier.poll() is None] + [child]
    return child


def _guarded_supervisor(path: Path) -> list[str]:
    """Returns the guardian's command; it needs neither the environment nor installed packages."""
    guard = [sys.executable, "-I", "-S", str(GUARDIAN), "--run-dir", str(path), "--"]
    return [*guard, *program("halos_backend.supervisor", "--run-dir", path)]


def interrupt_supervisor(run_dir: RunDir) -> None:
    """Asks the run's living supervisor to stop in good order, so that the run can be resumed."""
    if (holder := lock_holder(run_dir)) is not None:
        send_signal(holder.pid, holder.start_time, signal.SIGTERM)


def _run_prepare(run_dir: RunDir, report: Report, options: Sequence[str]) -> None:
    path = run_dir.path.resolve()
    with (
        run_dir.prepare_log.open("wb") as log,
        subprocess.Popen(
            program("halos_backend.stages.prepare", "--run-dir", path, *options),
            cwd=path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                match line.split():
                    case ["progress", done, total]:
                        report(int(done), int(total))
        except BaseException:  # after a Ctrl-C Popen itself would leave it behind
            child.kill()
            child.wait()
            raise
    if child.returncode not in (ExitCode.COMPLETED, ExitCode.USAGE):
        reason = "\n".join(tail_lines(run_dir.prepare_log, 15))
        raise HalosError(
            f"checking the run's inputs failed (exit code {child.returncode}):\n{reason}"
        )


def write_first_event(
    run_dir: RunDir,
    name: str,
    settings: Mapping[str, Any],
    inputs: RightInputs,
    *,
    first_cursor: int = 0,
    forked_from: ForkOrigin | None = None,
) -> None:
    """Begins the journal."""
    with EventWriter(run_dir.events) as writer:
        writer.append(
            RunCreated(
                t=clock.now(),
                schema_version=SCHEMA_VERSION,
                run=name,
                version=__version__,
                settings=dict(settings),
                num_prompts=inputs.num_prompts,
                num_too_long=inputs.num_too_long,
                prompts_sha256=inputs.prompts_sha256,
                policy_sha256=inputs.policy_sha256,
                checkpoint_bytes=inputs.checkpoint_bytes,
                num_held_out=inputs.num_held_out,
                first_cursor=first_cursor,
                forked_from=forked_from,
            ),
            durable=True,
        )

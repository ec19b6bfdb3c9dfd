"""Measures what supervision costs, with stages that compute nothing; prints one JSON object.

`python supervision.py [NUM_ROUNDS]` measures answers to requests, recovery, the time between stages
against a bash loop that starts the same programs, the share of a core, memory, and growth over
NUM_ROUNDS (default 1,000) with 100,000 attempt events.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from halos_backend.config.schema import RunSettings
from halos_backend.events import AnswerEvent, RunCreated, RunEvent, StageAdopted, SupervisorStarted
from halos_backend.store import requests
from halos_backend.store.identity import lock_holder
from halos_backend.store.reader import JournalReader, run_journal
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState, fold
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.processes.guardian import __file__ as guardian
from halos_backend.supervisor.processes.process import attempt_processes

HERE = Path(__file__).parent
NUM_REQUESTS = 200
WATCHED_S = 30.0
CHECKPOINT_BYTES = 1_500_000_000
NUM_EVENTS = 100_000
NUM_GAPS_ROUNDS = 20
MB = 1e6


class Run:
    """Holds a run directory whose stages are stubs, and its guardian."""

    def __init__(self, path: Path, *, num_rounds: int = 1, **plan: Any) -> None:
        path.mkdir(parents=True)
        self.dir = RunDir(path)
        (path / "stub.json").write_text(json.dumps(plan))
        settings = RunSettings.model_validate(
            {
                "policy": {"path": "/nowhere"},
                "prompts": {"path": "/nowhere.jsonl"},
                "loop": {"num_rounds": num_rounds, "prompts_per_round": 1},
                "label": {
                    "judge": {"kind": "function", "function": "judge.py:reward"},
                    "feedback": {"kind": "pairwise"},
                },
                "train": {"loss": {"kind": "dpo"}},
                "launch": {"num_threads": 1},
            }
        )
        created = RunCreated(
            t=time.time(),
            schema_version=1,
            run=path.name,
            version="0",
            settings=settings.model_dump(mode="json"),
            num_prompts=num_rounds,
            num_too_long=0,
            prompts_sha256="",
            policy_sha256="",
            checkpoint_bytes=4,
        )
        with EventWriter(self.dir.events) as writer:
            writer.append(created, durable=True)
        self.guardian = self._guard()

    def _guard(self) -> subprocess.Popen[bytes]:
        supervisor = [sys.executable, str(HERE / "stub_supervisor.py")]
        command = [sys.executable, "-I", "-S", str(guardian), "--run-dir", str(self.dir.path)]
        with self.dir.supervisor_log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--", *supervisor, "--run-dir", str(self.dir.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def events(self) -> list[RunEvent]:
        return run_journal(self.dir.events).read()

    @property
    def state(self) -> RunState:
        return fold(self.events)

    @property
    def supervisor(self) -> int:
        return wait_for(lambda: lock_holder(self.dir)).pid

    def wait_for_stage(self, round: int, stage: Any, attempt: int = 1) -> AttemptDir:
        directory = self.dir.attempt(round, stage, attempt)
        wait_for(lambda: directory.events.exists() and (round, stage) in self.state.active)
        return directory

    def finish(self) -> None:
        code = self.guardian.wait(timeout=600)
        assert code == 0, self.dir.supervisor_log.read_text()

    def destroy(self) -> None:
        if self.guardian.poll() is None:
            self.guardian.kill()
        if (holder := lock_holder(self.dir)) is not None:
            os.kill(holder.pid, signal.SIGKILL)
        for attempt in self.dir.path.glob("rounds/*/*/*"):
            for process in attempt_processes(attempt):
                os.kill(process.pid, signal.SIGKILL)


@contextmanager
def a_run(**options: Any) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder).resolve() / "run", **options)
        try:
            yield run
        finally:
            run.destroy()


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.001)
    raise SystemExit("it does not happen")


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "num_requests": len(ordered),
        "median_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
    }


def answer_times(run: Run, *, until: Callable[[], bool] = lambda: False) -> list[float]:
    """Returns the seconds from dropping each request to its answer in the journal."""
    journal = run_journal(run.dir.events, offset=run.dir.events.stat().st_size)
    taken = []
    for number in range(NUM_REQUESTS):
        request_id = requests.new_request_id()
        match number % 4:
            case 0:
                request: requests.Request = requests.Pause(request_id=request_id)
            case 1:
                request = requests.Resume(request_id=request_id)
            case 2:
                lr = f"train.lr={1e-6 * (number + 2)}"
                request = requests.Set(request_id=request_id, assignments=(lr,))
            case _:
                request = requests.Set(request_id=request_id, assignments=("train.lr=fast",))
        begun = time.monotonic()
        requests.send(run.dir, request)
        wait_for(partial(has_answer, journal, request_id))
        taken.append(time.monotonic() - begun)
        if until():
            break
    return taken


def has_answer(journal: JournalReader[RunEvent], request_id: str) -> bool:
    answers = (event for event in journal.read() if isinstance(event, AnswerEvent))
    return any(event.request_id == request_id for event in answers)


def measure_answers() -> dict[str, Any]:
    with a_run(**{"1/sample/1": {"seconds": 600}}) as run:
        run.wait_for_stage(1, "sample")
        while_running = answer_times(run)
    with a_run(**{"1/sample/1": {"seconds": 600, "ignores_sigterm": True}}) as run:
        run.wait_for_stage(1, "sample")
        os.kill(run.supervisor, signal.SIGTERM)  # ten seconds of grace begin
        while_killing = answer_times(run, until=lambda: run.state.status == "paused")
    return {
        "while_a_stage_runs": percentiles_ms(while_running),
        "while_a_stage_is_killed": percentiles_ms(while_killing),
        "while_a_checkpoint_is_verified": measure_answers_while_verifying(),
    }


def measure_answers_while_verifying() -> dict[str, float]:
    """Ends the stage while nobody watches, so that every byte of its outputs is read again."""
    how = {"seconds": 600, "checkpoint_bytes": CHECKPOINT_BYTES}
    with a_run(**{"1/train/1": how}, num_rounds=1) as run:
        attempt = run.wait_for_stage(1, "train")
        run.guardian.kill()
        os.kill(run.supervisor, signal.SIGKILL)
        (attempt.path / "release").touch()
        wait_for(attempt.done.exists)
        starts = count(run, SupervisorStarted)
        run.guardian = run._guard()
        wait_for(lambda: count(run, SupervisorStarted) > starts)
        taken = answer_times(
            run, until=lambda: run.state.rounds[0].stages["train"].status != "running"
        )
        return percentiles_ms(taken)


def count(run: Run, kind: type) -> int:
    return sum(isinstance(event, kind) for event in run.events)


def measure_recovery() -> dict[str, float]:
    """Measures from kill -9 of the supervisor to its successor, and to the stage's adoption."""
    with a_run(**{"1/sample/1": {"seconds": 600}}) as run:
        run.wait_for_stage(1, "sample")
        starts, adoptions = count(run, SupervisorStarted), count(run, StageAdopted)
        begun = time.monotonic()
        os.kill(run.supervisor, signal.SIGKILL)
        wait_for(lambda: count(run, SupervisorStarted) > starts)
        restarted_s = time.monotonic() - begun
        wait_for(lambda: count(run, StageAdopted) > adoptions)
        adopted_s = time.monotonic() - begun
    return {"restarted_s": round(restarted_s, 3), "adopted_s": round(adopted_s, 3)}


def gaps(times: Sequence[dict[str, float]]) -> float:
    """Returns median seconds from the end of a stage's work to the first statement of the next."""
    return statistics.median(
        after["begun"] - before["ended"] for before, after in itertools.pairwise(times)
    )


def measure_gaps() -> dict[str, float]:
    with a_run(num_rounds=NUM_GAPS_ROUNDS) as run:
        run.finish()
        attempts = [
            run.dir.attempt(round, stage, 1)
            for round in range(1, NUM_GAPS_ROUNDS + 1)
            for stage in ("sample", "label", "train")
        ]
        ours = [json.loads((attempt.path / "times.json").read_text()) for attempt in attempts]
        for attempt in attempts:
            for name in ("DONE", "times.json", "events.jsonl"):
                (attempt.path / name).unlink(missing_ok=True)
        program = f"{sys.executable} -I -S {HERE / 'stub_stage.py'}"
        loop = "\n".join(f"{program} {attempt.path}" for attempt in attempts)
        subprocess.run(["/bin/bash", "-e", "-c", loop], check=True)
        bash = [json.loads((attempt.path / "times.json").read_text()) for attempt in attempts]
    of_round = [ours[i : i + 3] for i in range(0, len(ours), 3)]
    within = statistics.median(gaps(times) for times in of_round)
    return {
        "supervised_ms": round(1000 * within, 1),
        "bash_loop_ms": round(1000 * gaps(bash), 1),
        "added_ms": round(1000 * (within - gaps(bash)), 1),
    }


def cpu_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"process {pid} has no Pss")


def measure_share() -> dict[str, float]:
    with a_run(**{"1/sample/1": {"seconds": 600}}) as run:
        run.wait_for_stage(1, "sample")
        pids = (run.supervisor, run.guardian.pid)
        time.sleep(2.0)
        before = sum(map(cpu_s, pids))
        time.sleep(WATCHED_S)
        used = sum(map(cpu_s, pids)) - before
        supervisor, guard = map(pss_bytes, pids)
    return {
        "percent_of_a_core": round(100 * used / WATCHED_S, 2),
        "supervisor_pss_mb": round(supervisor / MB, 1),
        "guardian_pss_mb": round(guard / MB, 1),
    }


def least_fds(pid: int) -> int:
    """Counts open file descriptors, without those of a moment (a stage's pidfd, a written file)."""
    counts = []
    for _ in range(30):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.01)
    return min(counts)


def measure_growth(num_rounds: int) -> dict[str, float]:
    """Measures growth from round 50 on."""
    per_stage = NUM_EVENTS // (3 * num_rounds)
    with a_run(num_rounds=num_rounds, events=per_stage) as run:
        pid = run.supervisor

        def rounds_done() -> int:
            return len(list((run.dir.path / "rounds").glob("*/settings.json")))

        wait_for(lambda: rounds_done() >= 50)
        before, fds = pss_bytes(pid), least_fds(pid)
        wait_for(lambda: rounds_done() >= num_rounds - 10, limit_s=3600)
        after, fds_after = pss_bytes(pid), least_fds(pid)
        run.finish()
    return {
        "num_rounds": num_rounds,
        "num_attempt_events": per_stage * 3 * num_rounds,
        "added_pss_mb": round((after - before) / MB, 2),
        "added_fds": fds_after - fds,
    }


def main() -> None:
    num_rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    os.environ["HALOS_RUNTIME_DIR"] = tempfile.mkdtemp()
    try:
        result = {
            "benchmark": "supervision",
            "answers": measure_answers(),
            "recovery": measure_recovery(),
            "between_stages": measure_gaps(),
            "while_a_stage_runs": measure_share(),
            "growth": measure_growth(num_rounds),
        }
    finally:
        shutil.rmtree(os.environ["HALOS_RUNTIME_DIR"], ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

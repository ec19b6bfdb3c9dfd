"""A stage starts when the memory of its GPUs is free; who holds it is named."""

from __future__ import annotations

from dataclasses import dataclass, field

from halos_backend.config.schema import LaunchSettings
from halos_backend.events import Stage
from halos_backend.supervisor.gpus.memory_gate import UNKNOWN, MemoryGate
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

GIB = 1 << 30
LAUNCH = LaunchSettings()


@dataclass
class Programs:
    """A run's own processes, and which workers were ended."""

    running: set[int] = field(default_factory=set)
    parked: dict[Stage, set[int]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def running_pids(self) -> set[int]:
        return self.running

    def parked_pids(self) -> dict[Stage, set[int]]:
        return self.parked

    def end_worker(self, stage: Stage, reason: str) -> None:
        self.ended.append(f"{stage}: {reason}")
        del self.parked[stage]


@dataclass
class Machine:
    """A scripted machine with two GPUs, its clock, and how often it was looked at."""

    now: float = 100.0
    latest: Reading | None = None
    num_wakes: int = 0
    own: Programs = field(default_factory=Programs)

    def wake(self) -> None:
        self.num_wakes += 1

    def look(self, *processes: GpuProcess, gpu: int = 0) -> None:
        """What the thread finds now."""
        used = sum(process.used_bytes or 0 for process in processes)
        held = GpuReading(
            index=gpu, memory_used_bytes=used, memory_total_bytes=80 * GIB, processes=processes
        )
        free = GpuReading(index=1 - gpu, memory_used_bytes=0, processes=())
        self.latest = Reading(t=self.now, host=HostReading(), gpus=(held, free))

    def gate(self, *, visible: str | None = None, has_gpu: bool = True) -> MemoryGate:
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return MemoryGate(
            self, self.own, environment=environment, has_gpu=lambda: has_gpu, now=lambda: self.now
        )


TRAINER = GpuProcess(pid=7, used_bytes=30 * GIB, name="python", user="bob")


def test_without_a_gpu_or_on_the_cpu_nothing_is_looked_at() -> None:
    machine = Machine()

    assert machine.gate(has_gpu=False).obstacle(LAUNCH) is None
    assert machine.gate().obstacle(LaunchSettings(device="cpu")) is None
    assert machine.num_wakes == 0


def test_a_look_from_before_does_not_count() -> None:
    machine = Machine()
    machine.look()
    machine.now += 1
    gate = machine.gate()

    assert gate.obstacle(LAUNCH) == UNKNOWN
    assert gate.obstacle(LAUNCH) == UNKNOWN
    assert machine.num_wakes == 1
    machine.now += 0.1
    machine.look()
    assert gate.obstacle(LAUNCH) is None


def test_who_holds_memory_is_named_until_it_is_gone() -> None:
    machine = Machine()
    gate = machine.gate()
    gate.obstacle(LAUNCH)
    machine.look(TRAINER)

    said = gate.obstacle(LAUNCH)

    assert said == "GPU memory is held by python (process 7 of bob), on GPU 0"
    machine.now += 1
    assert gate.obstacle(LAUNCH) == said
    assert machine.num_wakes == 2, "it looks again by itself"
    machine.look()
    assert gate.obstacle(LAUNCH) is None


def test_only_the_runs_own_gpus_count() -> None:
    machine = Machine()
    machine.look(TRAINER, gpu=1)

    assert machine.gate().obstacle(LaunchSettings(devices=(0,))) is None
    assert machine.gate(visible="0").obstacle(LAUNCH) is None
    assert "GPU 1" in str(machine.gate().obstacle(LAUNCH))


def test_a_holder_that_stays_is_worked_beside_and_not_waited_for_again() -> None:
    machine = Machine()
    gate = machine.gate()
    machine.look(TRAINER)
    assert gate.obstacle(LAUNCH)
    machine.now += 121
    machine.look(TRAINER)
    assert gate.obstacle(LAUNCH) is None, "two minutes were enough"

    machine.look(TRAINER)
    assert gate.obstacle(LAUNCH) is None
    other = GpuProcess(pid=8, used_bytes=2 * GIB, name="python", user="eve")
    machine.look(TRAINER, other)
    assert "process 8 of eve" in str(gate.obstacle(LAUNCH))


def test_a_driver_that_never_answers_is_not_waited_for() -> None:
    machine = Machine()
    gate = machine.gate()
    assert gate.obstacle(LAUNCH) == UNKNOWN
    machine.now += 11
    assert gate.obstacle(LAUNCH) is None


def own(pid: int, gib: float, name: str | None = "python") -> GpuProcess:
    return GpuProcess(pid=pid, used_bytes=int(gib * GIB), name=name, user="me")


def test_the_runs_own_programs_are_worked_beside() -> None:
    machine = Machine(own=Programs(running={7}, parked={"label": {8, 9}}))
    gate = machine.gate()
    machine.look(own(7, 40), own(9, 3))

    assert gate.obstacle(LAUNCH) is None
    assert machine.own.ended == []


def test_a_parked_worker_that_keeps_most_of_a_gpu_is_ended_and_waited_for() -> None:
    machine = Machine(own=Programs(parked={"sample": {8, 9}}))
    gate = machine.gate()
    machine.look(own(9, 60))

    assert gate.obstacle(LAUNCH) == "the parked sample worker holds 60.0 GiB of a GPU"
    machine.now += 3
    machine.look(own(9, 60))
    assert gate.obstacle(LAUNCH), "it has a few seconds"
    machine.now += 3
    machine.look(own(9, 60))
    assert gate.obstacle(LAUNCH) == "GPU memory is held by python (process 9 of me), on GPU 0"
    assert machine.own.ended == ["sample: parked, it held 60.0 GiB of a GPU"]
    machine.now += 1
    machine.look()
    assert gate.obstacle(LAUNCH) is None


def test_a_parked_worker_whose_memory_grows_from_round_to_round_is_ended() -> None:
    machine = Machine(own=Programs(parked={"sample": {8}}))
    gate = machine.gate()
    for gib in (1.5, 2.5, 3.4):
        machine.now += 100
        machine.look(own(8, gib))
        assert gate.obstacle(LAUNCH) is None

    machine.look(own(8, 3.6))
    assert gate.obstacle(LAUNCH) is not None
    machine.now += 6
    machine.look(own(8, 3.6))
    assert gate.obstacle(LAUNCH) is not None
    assert machine.own.ended == ["sample: parked, it held 3.6 GiB of a GPU"]


def test_in_a_container_nobody_is_taken_for_another_while_the_runs_own_programs_live() -> None:
    machine = Machine()
    machine.look(own(70007, 60, name=None))
    assert machine.gate().obstacle(LAUNCH) is not None

    machine.own.parked = {"train": {8}}
    assert machine.gate().obstacle(LAUNCH) is None

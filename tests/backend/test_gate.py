"""A stage starts when the memory of its GPUs is free; who holds it is named."""

from __future__ import annotations

from dataclasses import dataclass

from halos_backend.config.schema import LaunchSettings
from halos_backend.supervisor.gate import UNKNOWN, MemoryGate
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

GIB = 1 << 30
LAUNCH = LaunchSettings()


@dataclass
class Machine:
    """A scripted machine with two GPUs, its clock, and how often it was looked at."""

    now: float = 100.0
    latest: Reading | None = None
    num_wakes: int = 0

    def wake(self) -> None:
        self.num_wakes += 1

    def look(self, *processes: GpuProcess, gpu: int = 0) -> None:
        """What the thread finds now."""
        used = sum(process.used_bytes or 0 for process in processes)
        held = GpuReading(index=gpu, memory_used_bytes=used, processes=processes)
        free = GpuReading(index=1 - gpu, memory_used_bytes=0, processes=())
        self.latest = Reading(t=self.now, host=HostReading(), gpus=(held, free))

    def gate(self, *, visible: str | None = None, has_gpu: bool = True) -> MemoryGate:
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return MemoryGate(
            self, environment=environment, has_gpu=lambda: has_gpu, now=lambda: self.now
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

"""Reads all GPUs through NVML; no library, driver or GPU, or one that is lost, is a normal answer.

It also opens NVIDIA's management library, and tells its errors apart. `devices` knows whose GPUs
they are, and which stage a process belongs to.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from halos_backend import clock
from halos_backend.telemetry.reading import GpuProcess, GpuReading

REOPEN_S = 30.0
"""Is the time between two attempts to open NVML: one may take seconds, and a dead driver stays
dead.
"""

LIBRARY = "libnvidia-ml.so.1"
GONE = frozenset({1, 9, 15, 16, 28, 999})
"""Lists error codes of a GPU or driver that no longer answers.

They are: uninitialized, driver not loaded, GPU is lost, reset required, GPU not found, unknown. Any
other code is about the one question asked.
"""


def load_nvml() -> Any:
    """Returns the `pynvml` module, initialized; None without the package, a driver or a GPU."""
    if not has_library():
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def has_library() -> bool:
    """Says whether the driver's library is there; `pynvml` alone would cost 3 MB to find
    that out.
    """
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def gpu_number(uuid: str, load: Callable[[], Any] = load_nvml) -> int | None:
    """Returns the number of the GPU whose uuid begins so; None where the driver knows none, or
    several.
    """
    nvml = load()
    if nvml is None:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        uuids = [as_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except nvml_errors(nvml):
        return None
    finally:
        nvml.nvmlShutdown()
    found = [number for number, known in enumerate(uuids) if known.startswith(uuid)]
    return found[0] if len(found) == 1 else None


def nvml_errors(nvml: Any) -> tuple[type[Exception], ...]:
    """Returns what its functions raise; a function that an old driver lacks has an error of its
    own.
    """
    mismatch = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)
    return (nvml.NVMLError, mismatch)


def is_gone(error: Exception) -> bool:
    """Says whether the error says that the GPU, or the driver, no longer answers."""
    return getattr(error, "value", None) in GONE


def as_text(value: bytes | str) -> str:
    """Returns a name as the library gives it, in any version of it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class _LostError(Exception):
    """Is raised when the GPU no longer answers; the text is the driver's reason."""


@dataclass(frozen=True)
class _Device:
    """Is a GPU as it was found when NVML was opened; `lost` is why it could not be."""

    index: int
    handle: Any = None
    uuid: str | None = None
    name: str | None = None
    lost: str | None = None


class Gpus:
    """Reads the machine's GPUs. One thread may ask; a call can hang for seconds when a
    GPU is lost.
    """

    def __init__(
        self,
        load: Callable[[], Any] = load_nvml,
        *,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._load = load
        self._monotonic = monotonic
        self._nvml: Any = None
        self._devices: tuple[_Device, ...] = ()
        self._reopen_at = float("-inf")
        self._is_sound = False

    def read(self) -> tuple[GpuReading, ...]:
        """Returns every GPU there is or was, a lost one with the reason; empty without any."""
        if not self._is_sound and self._monotonic() >= self._reopen_at:
            self._reopen_at = self._monotonic() + REOPEN_S
            self._open()
        readings = tuple(self._read(device) for device in self._devices)
        if any(reading.lost is not None for reading in readings):
            self._is_sound = False
        return readings

    def _open(self) -> None:
        """Finds the GPUs anew. Those that were there before and are not now count as lost."""
        if self._nvml is not None:
            with contextlib.suppress(*nvml_errors(self._nvml)):
                self._nvml.nvmlShutdown()
        self._nvml = self._load()
        if self._nvml is None:
            self._lose_all("the driver does not answer")
            return
        try:
            count = int(self._nvml.nvmlDeviceGetCount())
        except nvml_errors(self._nvml) as error:
            self._lose_all(str(error))
            return
        found = tuple(self._find(index) for index in range(count))
        missing = tuple(
            _Device(old.index, uuid=old.uuid, name=old.name, lost="it is no longer there")
            for old in self._devices
            if old.index >= count and old.uuid not in {device.uuid for device in found}
        )
        self._devices = found + missing
        self._is_sound = all(device.lost is None for device in self._devices)

    def _find(self, index: int) -> _Device:
        known = {device.index: device for device in self._devices}.get(index, _Device(index))
        try:
            handle = self._handle(index)
            uuid = self._ask(self._nvml.nvmlDeviceGetUUID, handle)
            name = self._ask(self._nvml.nvmlDeviceGetName, handle)
        except _LostError as error:
            return _Device(index, uuid=known.uuid, name=known.name, lost=str(error))
        return _Device(
            index,
            handle,
            uuid=None if uuid is None else as_text(uuid),
            name=None if name is None else as_text(name),
        )

    def _handle(self, index: int) -> Any:
        """Returns a GPU's handle. Raises _LostError, whatever the driver has against it."""
        try:
            return self._nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml_errors(self._nvml) as error:
            raise _LostError(str(error)) from error

    def _lose_all(self, reason: str) -> None:
        self._devices = tuple(
            _Device(device.index, uuid=device.uuid, name=device.name, lost=reason)
            for device in self._devices
        )

    def _read(self, device: _Device) -> GpuReading:
        lost = device.lost
        if lost is None:
            try:
                return self._measure(device)
            except _LostError as error:
                lost = str(error)
        return GpuReading(index=device.index, uuid=device.uuid, name=device.name, lost=lost)

    def _measure(self, device: _Device) -> GpuReading:
        nvml, handle = self._nvml, device.handle
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        utilization = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        energy_mj = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        running = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        return GpuReading(
            index=device.index,
            uuid=device.uuid,
            name=device.name,
            utilization_frac=None if utilization is None else utilization.gpu / 100,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=self._ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            energy_j=None if energy_mj is None else energy_mj / 1000,
            processes=None if running is None else tuple(_describe(found) for found in running),
        )

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Returns the answer; None where this GPU or driver has none. Raises _LostError."""
        try:
            return question(*arguments)
        except nvml_errors(self._nvml) as error:
            if is_gone(error):
                raise _LostError(str(error)) from error
            return None


def _describe(process: Any) -> GpuProcess:
    folder = Path(f"/proc/{process.pid}")
    name: str | None = None
    user: str | None = None
    with contextlib.suppress(OSError):
        user = _user_name(folder.stat().st_uid)
        # never the command line, which may hold a secret
        name = (folder / "comm").read_bytes().decode(errors="replace").strip()
    return GpuProcess(pid=process.pid, used_bytes=process.usedGpuMemory, name=name, user=user)


@lru_cache(maxsize=64)
def _user_name(uid: int) -> str:
    """Returns an account's name, which may be in a directory service: it is asked once."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

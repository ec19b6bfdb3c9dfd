"""Opens NVIDIA's management library, and tells its errors apart."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
GONE = frozenset({1, 9, 15, 16, 28, 999})
"""Error codes of a GPU or driver that no longer answers: uninitialized, driver not loaded, GPU is
lost, reset required, GPU not found, unknown. Any other code is about the one question asked."""


def load_nvml() -> Any:
    """The `pynvml` module, initialized; None without the package, a driver or a GPU."""
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
    """Whether the driver's library is there; `pynvml` alone would cost 3 MB to find that out."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def gpu_number(uuid: str, load: Callable[[], Any] = load_nvml) -> int | None:
    """The number of the GPU whose uuid begins so; None where the driver knows none, or several."""
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
    """What its functions raise; a function that an old driver lacks has an error of its own."""
    mismatch = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)
    return (nvml.NVMLError, mismatch)


def is_gone(error: Exception) -> bool:
    """Whether the error says that the GPU, or the driver, no longer answers."""
    return getattr(error, "value", None) in GONE


def as_text(value: bytes | str) -> str:
    """A name as the library gives it, in any version of it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value

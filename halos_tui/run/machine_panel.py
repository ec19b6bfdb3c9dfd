"""This panel shows each GPU with its history, or the host where there is no GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from halos_tui.formatting import rough_duration, size
from halos_tui.run.view import DeviceView, MachineView
from halos_tui.text_layout import num_cells
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import Line, Panel, joined

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-:=+*#"
NEARLY_FULL = 0.97
MOST_HISTORY = 60
MOST_BAR = 30
LEAST_HISTORY = 6
NAME = 8
FIGURES = NAME + 18
"""A line has so many cells beside its history."""
ONE_LINE = NAME + 24
WITH_HEAT = NAME + 26
HEAT_FROM = 52


class MachinePanel(Panel[MachineView]):
    """A device has two lines where there is room, else one."""

    def caption(self, width: int) -> Line:
        shown = self.shown or MachineView()
        models = ", ".join(dict.fromkeys(gpu.model.removeprefix("NVIDIA ") for gpu in shown.gpus))
        age = f"{rough_duration(shown.age_s)} old" if shown.age_s else ""
        disk = f"disk {size(shown.disk_free_bytes)} free" if shown.disk_free_bytes else ""
        parts: list[Line] = [[("machine", "title")], [(age, "warning")], [(models, "")]]
        with_disk = joined([*parts, [(disk, "muted")]])
        return with_disk if num_cells(with_disk) <= width else joined(parts)

    def lines(self, shown: MachineView, width: int, height: int) -> Iterator[Line]:
        devices = [*shown.gpus, *([shown.host] if shown.host else [])]
        if not devices:
            yield [("no readings yet", "muted")]
        is_roomy = height >= 2 * len(devices)
        for device in devices:
            yield from self._device(device, width, is_roomy=is_roomy)
        for gpu in shown.gpus:
            if gpu.others:
                yield [(f"{gpu.name} also: {', '.join(gpu.others)}", "warning")]

    def _device(self, device: DeviceView, width: int, *, is_roomy: bool) -> Iterator[Line]:
        if device.lost:
            yield [(f"{device.name:<6}lost: {device.lost}", "bad")]
            return
        used = f"{_percent(device.utilization)} {'busy' if device.name != 'host' else 'cpu'}"
        memory = _memory(device)
        memory_style = "warning" if _is_nearly_full(device) else ""
        if not is_roomy:
            history = self._history(device.utilization_history, width - ONE_LINE)
            yield joined(
                [[(f"{device.name:<6}", "")], [history], [(used, "")], [(f"{memory:>11}", "")]]
            )
            return
        if device.name == "host":
            yield from self._host(device, used, memory, memory_style, width)
            return
        heat = [part for part in (_watts(device), _degrees(device)) if part]
        has_heat = bool(heat) and width >= HEAT_FROM
        cells = width - (WITH_HEAT if has_heat else FIGURES)
        first = self._history(device.utilization_history, cells)
        second = self._history(device.memory_history, cells)
        extra: Line = [("  ".join(heat) if has_heat else "", "muted")]
        yield joined([[(f"{device.name:<6}", "")], [first], [(f"{used:<8}", "")], extra])
        yield joined([[("  mem ", "muted")], [second], [(memory, memory_style)]])

    def _host(
        self, device: DeviceView, used: str, memory: str, memory_style: str, width: int
    ) -> Iterator[Line]:
        """Yields bars: without a GPU it is what the machine has now that matters."""
        cells = width - FIGURES
        share = _share(device.memory_used_bytes, device.memory_total_bytes)
        yield joined(
            [[(f"{device.name:<6}", "")], self._bar(device.utilization, cells), [(used, "")]]
        )
        yield joined([[("  mem ", "muted")], self._bar(share, cells), [(memory, memory_style)]])

    def _bar(self, share: float | None, width: int) -> list[Run]:
        cells = min(MOST_BAR, width)
        if share is None or cells < LEAST_HISTORY:
            return []
        done, rest = ("#", "-") if self.is_ascii else ("━", "╌")
        full = round(cells * min(1.0, share))
        return [(done * full, "accent"), (rest * (cells - full), "muted")]

    def _history(self, values: Sequence[float], width: int) -> Run:
        """Draws a level for each of the newest values, from 0 to 1."""
        cells = min(MOST_HISTORY, width)
        if cells < LEAST_HISTORY:
            return "", ""
        levels = ASCII_LEVELS if self.is_ascii else LEVELS
        return "".join(_level(value, levels) for value in values[-cells:]).rjust(cells), "accent"


def _level(value: float, levels: str) -> str:
    if math.isnan(value):
        return " "
    return levels[min(len(levels) - 1, max(0, int(value * len(levels))))]


def _memory(device: DeviceView) -> str:
    """Writes 41.2/80 GiB, or 943 MiB/23.5 GiB."""
    used, total = size(device.memory_used_bytes), size(device.memory_total_bytes)
    same_unit = used.split()[-1] == total.split()[-1]
    return f"{used.split()[0] if same_unit else used}/{total}"


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None


def _is_nearly_full(device: DeviceView) -> bool:
    used, total = device.memory_used_bytes, device.memory_total_bytes
    return bool(used and total and used > NEARLY_FULL * total)


def _percent(share: float | None) -> str:
    return "  -" if share is None else f"{100 * share:3.0f}%"


def _watts(device: DeviceView) -> str:
    return "" if device.power_w is None else f"{device.power_w:.0f} W"


def _degrees(device: DeviceView) -> str:
    return "" if device.temperature_c is None else f"{device.temperature_c} °C"

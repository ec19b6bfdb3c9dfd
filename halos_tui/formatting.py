"""Owns how text from elsewhere and numbers look; nothing else in the project formats either.

Model output is untrusted: what could steer a terminal is shown as an escape, never sent.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence

ABSENT = "-"
"""This stands where there is no value."""

STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, delete, C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # bidirectional and invisible
    "\ud800-\udfff"  # lone surrogates, which no terminal can be sent
    "\ufff9-\ufffb\U000e0000-\U000e007f]"  # annotations and tags
)
MOST_PLACES = 6
"""A number has at most so many places after the point; a smaller one has a power of ten."""
SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
SI = ("", "k", "M", "G", "T")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def visible(text: str) -> str:
    """Returns the text on one line, with every character that could steer a terminal as an
    escape.
    """
    return STEERING.sub(_escape, text)


def visible_lines(text: str) -> str:
    """Works like `visible`, but line breaks and tabs stay."""
    return STEERING.sub(lambda found: found[0] if found[0] in "\n\t" else _escape(found), text)


def clipped(text: str, width: int) -> str:
    """Returns at most `width` characters; the last is an ellipsis where something was left out."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def number(value: float | None, digits: int = 4) -> str:
    """Writes significant digits, without superfluous zeros: 0.6931, 5e-6, 12."""
    if value is None:
        return ABSENT
    return re.sub(
        r"e([+-])0*", lambda found: f"e{found[1].replace('+', '')}", f"{value:.{digits}g}"
    )


def signed(value: float | None, digits: int = 3) -> str:
    """Writes a change: +0.031, -0.2, 0 where nothing changed."""
    if value is None or value == 0:
        return ABSENT if value is None else "0"
    return f"{'+' if value > 0 else '-'}{number(abs(value), digits)}"


def fixed(value: float, places: int) -> str:
    """Writes so many places after the point; what rounds to zero has no sign: 0.00."""
    shown = f"{value:.{max(0, places)}f}"
    return shown.lstrip("-") if not shown.strip("-0.") else shown


def short_number(value: float) -> str:
    """Writes three places, fewer for large numbers, and never a power of ten: 0.640, 14,440."""
    if not math.isfinite(value):
        return str(value)
    if 0 < abs(value) < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    places = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:,.0f}" if abs(value) >= 1000 else fixed(value, places)


def aligned(values: Sequence[float | None]) -> list[str]:
    """Writes values that stand below each other with the same places, the points in one column."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    places = 0 if all(value == int(value) for value in known) else 2
    if places and max(map(abs, known)) >= 100:
        places = 1
    texts = [ABSENT if value is None else fixed(value, places) for value in values]
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]


def measured(value: float, stderr: float | None, *, is_signed: bool = False) -> str:
    """Writes a value with its standard error: 0.512 ±0.021, or +0.03 ±0.02 by `is_signed`.

    Both are as exact as the error is. Without an error it writes like `number` or `signed`.
    """
    plain = signed(value) if is_signed else number(value)
    if stderr is None:
        return plain
    places = 1 - math.floor(math.log10(stderr)) if stderr > 0 else MOST_PLACES + 1
    if places > MOST_PLACES:
        return f"{plain} ±{number(stderr, 2)}"
    sign = "+" if is_signed else ""
    places = max(0, places)
    return f"{value:{sign}.{places}f} ±{stderr:.{places}f}"


def measured_in_ascii(figure: str) -> str:
    """Rewrites what `measured` returns in ASCII, in as many cells: +0.03+-0.02."""
    return figure.replace(" ±", "+-")


def percent(share: float | None, places: int = 1) -> str:
    return ABSENT if share is None else f"{100 * share:.{places}f}%"


def count(value: int | None) -> str:
    """Writes 1,234,567."""
    return ABSENT if value is None else f"{value:,}"


def short_count(value: int) -> str:
    """Writes three significant digits: 940, 12.3k, 1.23M."""
    return _scaled(value, SI, base=1000)


def plural(value: int, noun: str) -> str:
    """Writes 1 round, 3 rounds."""
    return f"{count(value)} {noun if value == 1 else f'{noun}s'}"


def size(num_bytes: float | None) -> str:
    """Writes three significant digits of a binary unit: 3.21 GiB."""
    if num_bytes is None:
        return ABSENT
    return _scaled(num_bytes, BINARY, base=1024, blank=" ")


def rate(per_s: float | None, unit: str) -> str:
    """Writes 12.3 steps/s; what is slower than one in 2 s is given per minute."""
    if per_s is None:
        return ABSENT
    if 0 < per_s < 0.5:
        return f"{_scaled(per_s * 60, SI, base=1000)} {unit}/min"
    return f"{_scaled(per_s, SI, base=1000)} {unit}/s"


def duration(seconds: float | None) -> str:
    """Writes 0.4s, 12s, 3m05s, 2h03m, 4d07h."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def rough_duration(seconds: float) -> str:
    """Writes a time as exact as an estimate is: 8s, 45s, 12m, 2h10m, 4d07h."""
    if seconds < 57.5:
        step = 1 if seconds < 10 else 5
        return f"{int(max(0.0, seconds) / step + 0.5) * step}s"
    minutes = int(seconds / 60 + 0.5)
    if minutes < 60:
        return f"{minutes}m"
    tens = int(seconds / 600 + 0.5)
    if tens < 144:
        return f"{tens // 6}h{tens % 6 * 10:02d}m"
    hours = int(seconds / 3600 + 0.5)
    return f"{hours // 24}d{hours % 24:02d}h"


def setting(value: object) -> str:
    """Writes a setting's value on one line: 5e-06, dpo, unset, {beta=0.1, kind=dpo}."""
    match value:
        case None:
            return "unset"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return f"{{{', '.join(f'{key}={setting(entry)}' for key, entry in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(setting(entry) for entry in value)}]"
        case _:
            return str(value) or "''"


def setting_changes(changes: Mapping[str, tuple[object, object]]) -> str:
    """Writes `train.lr 5e-06 -> 1e-06, loop.seed 1 -> 2`."""
    return ", ".join(
        f"{path} {setting(old)} -> {setting(new)}" for path, (old, new) in changes.items()
    )


def clock_time(t: float) -> str:
    """Writes the local time of day: 14:03:22."""
    return time.strftime("%H:%M:%S", time.localtime(t))


def rough_clock(t: float, now: float) -> str:
    """Writes when something is likely to be: 04:10, Tue 04:10 after today, 24 Dec after a week."""
    step = 60 if t - now < 3600 else 300
    at = time.localtime((t + step / 2) // step * step)
    if t - now >= 6 * 86400:
        return time.strftime("%d %b", at)
    is_today = at[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if is_today else "%a %H:%M", at)


def date_time(t: float) -> str:
    """Writes local date and time: 2026-11-23 14:03."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(t)) if t else ABSENT


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> list[str]:
    """Returns the lines of an aligned table; columns named in `right` are aligned right."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    to_right = [name in right.split() for name in header]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, to_right, strict=True)
        ).rstrip()
        for row in table
    ]


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in SHORT_ESCAPES:
        return SHORT_ESCAPES[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _scaled(value: float, units: Sequence[str], *, base: int, blank: str = "") -> str:
    """Writes three significant digits and the fitting unit."""
    scaled, index = float(value), 0
    while abs(scaled) >= 999.5 and index < len(units) - 1:
        scaled, index = scaled / base, index + 1
    digits = (
        f"{scaled:.0f}"
        if abs(scaled) >= 99.95 or (index == 0 and scaled == int(scaled))
        else (f"{scaled:.3g}")
    )
    return f"{digits}{blank}{units[index]}"

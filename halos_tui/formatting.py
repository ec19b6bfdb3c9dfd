"""Owns how text from elsewhere and numbers look; nothing else in the project formats either.

Model output is untrusted: what could steer a terminal is shown as an escape, never sent.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ABSENT = "-"
"""This stands where there is no value."""

STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, delete, C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # bidirectional and invisible
    "\ud800-\udfff"  # lone surrogates, which no terminal can be sent
    "\ufff9-\ufffb\U000e0000-\U000e007f]"  # annotations and tags
)
DIGITS = 3
"""A figure has so many significant digits where nobody knows how exact it is."""
MOST_PLACES = 6
"""A figure has at most so many places after the point; a smaller one has a power of ten."""
PLAIN = (1e-4, 1e6)
"""A number between these has no power of ten."""
HUGE = 1e12
"""From here on figures have a power of ten, so that they are no longer than a screen is wide."""
ROUNDING = 1e-8
"""What is nearer to 0 than this is nothing but rounding."""
SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
SI = ("", "k", "M", "G", "T")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
Unit = Literal["number", "count", "share", "time", "size"]
TIMES = ((3600.0, "h"), (60.0, "m"), (1.0, "s"))
CUT_FIGURE = re.compile(r"(?<![\w.,+±-])[+±-]*\d[\d.,:]*$|[+±-]+$")
"""It is a figure, or the sign of one, at the end of a text; a number in a name is none."""
WHOLE_PART = re.compile(r"[+-]?\d[\d,]*|-$")
"""It is what stands before the point of a number, or all of ABSENT."""


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


def without_last_figure(text: str) -> str:
    """Takes away the figure that a text ends with where it was cut off: a part of a figure is
    another one.
    """
    return CUT_FIGURE.sub("", text)


def number(value: float | None, digits: int = DIGITS) -> str:
    """Writes significant digits, without superfluous zeros: 0.693, 12, 14,440, 5e-6."""
    if value is None or not math.isfinite(value):
        return ABSENT if value is None else str(value)
    if abs(value) < ROUNDING:
        return "0"
    if not PLAIN[0] <= abs(value) < PLAIN[1]:
        return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.{digits}g}")
    text = f"{value:,.{max(0, digits - 1 - magnitude(value))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_sign(text: str) -> str:
    """Puts a plus before a number that is above 0 as it is written."""
    return text if text.startswith("-") or not text.strip("0.% ") else f"+{text}"


def fixed(value: float, places: int) -> str:
    """Writes so many places after the point; what rounds to zero has no sign: 14,440, 0.00."""
    shown = f"{value:,.{max(0, places)}f}"
    return shown.lstrip("-") if not shown.strip("-0.") else shown


def magnitude(value: float) -> int:
    """Returns the power of ten of a number's first digit: 0 for 3.2, -2 for 0.032."""
    return math.floor(math.log10(abs(value)) + 1e-9)  # 0.3 - 0.2 is a little less than 0.1


@dataclass(frozen=True, slots=True)
class FigureLook:
    """Says how figures that stand together are written: with so many places after the point, as
    shares in percent, with sign, with standard error.

    Without `places` each has the digits of its own that a power of ten needs.
    """

    places: int | None = 2
    is_share: bool = False
    is_signed: bool = False
    has_error: bool = False

    def write(self, value: float, error: float | None = None) -> str:
        """Writes a figure: -0.94 ±0.16, +30% ±17%; blanks stand for an error that others have."""
        text = self._plain(value, DIGITS)
        text = with_sign(text) if self.is_signed else text
        if not self.has_error:
            return text
        if error is None:
            return text + " " * len(f" ±{self._plain(0.0, 2)}")
        return f"{text} ±{self._plain(error, 2)}"

    def _plain(self, value: float, digits: int) -> str:
        scale, unit = (100, "%") if self.is_share else (1, "")
        shown = number(scale * value, digits) if self.places is None else None
        return (shown or fixed(scale * value, self.places or 0)) + unit


def look_of(
    values: Iterable[float | None],
    errors: Iterable[float | None] = (),
    *,
    is_share: bool = False,
    is_signed: bool = False,
    most: int = MOST_PLACES,
) -> FigureLook:
    """Finds how exact figures are that stand together, such as those of a column.

    They have as many places as two digits of their median standard error, else as `DIGITS` of the
    largest; whole numbers have none. What places cannot show has a power of ten.
    """
    scale = 100 if is_share else 1
    known = [scale * value for value in values if value is not None and math.isfinite(value)]
    given = [scale * error for error in errors if error is not None and math.isfinite(error)]
    places = _places_of(known, [error for error in given if error >= ROUNDING])
    if places is not None:
        places = max(0, min(1 if is_share else most, places))
    return FigureLook(places, is_share, is_signed, has_error=bool(given))


def _places_of(values: Sequence[float], errors: Sequence[float]) -> int | None:
    """Returns the places after the point, or None where figures have powers of ten."""
    largest = max(map(abs, values), default=0.0)
    if errors:
        places = 1 - magnitude(statistics.median(errors))
    elif are_whole(values):
        places = 0
    else:
        places = DIGITS - 1 - magnitude(largest)
        while places > DIGITS and all(_ends_at(value, places - 1) for value in values):
            places -= 1  # 0.0002, and no zeros behind it
    is_tiny = places > MOST_PLACES or (places > 0 and max((largest, *errors)) < PLAIN[0])
    return None if is_tiny or largest >= HUGE else places


def at_point(texts: Sequence[str]) -> list[str]:
    """Puts the points of numbers in one column, and whatever stands behind them, such as a unit."""
    ends = [
        len(text) if (whole := WHOLE_PART.match(text)) is None else whole.end() for text in texts
    ]
    before = max(ends, default=0)
    placed = [" " * (before - end) + text for text, end in zip(texts, ends, strict=True)]
    width = max(map(len, placed), default=0)
    return [text.ljust(width) for text in placed]


def denomination(unit: Unit, largest: float) -> tuple[float, str]:
    """Returns what figures up to the largest are multiplied by to be read, and what is then written
    behind them: 100 and %, 1/1024 and KiB.
    """
    match unit:
        case "share":
            return 100.0, "%"
        case "size":
            power = _power(largest, base=1024, num_units=len(BINARY))
            return 1024.0**-power, f" {BINARY[power]}"
        case "time":
            seconds, name = next((one for one in TIMES if largest >= 2 * one[0]), TIMES[-1])
            return 1 / seconds, name
        case _:
            return 1.0, ""


def unit_of(name: str) -> Unit:
    """Returns what a figure counts, by the project's rule for names: `num_tokens`, `elapsed_s`."""
    key = name.rpartition(".")[2]
    if key.endswith(("_frac", "_accuracy")):
        return "share"
    if key.endswith("_bytes"):
        return "size"
    if key.endswith("_s") and not key.endswith("_per_s"):
        return "time"
    return "count" if key.startswith("num_") else "number"


def are_whole(values: Iterable[float]) -> bool:
    """Says whether they are whole numbers but for rounding."""
    return all(_ends_at(value, 0) for value in values)


def aligned(values: Sequence[float | None]) -> list[str]:
    """Writes values that stand below each other, with the points in one column."""
    look = look_of(values)
    texts = [ABSENT if value is None else look.write(value) for value in values]
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]


def measured(
    value: float | None,
    stderr: float | None = None,
    *,
    is_share: bool = False,
    is_signed: bool = False,
) -> str:
    """Writes a figure that stands alone: 0.512 ±0.021, 0.500, +3% ±2%."""
    if value is None:
        return ABSENT
    look = look_of([value], [stderr], is_share=is_share, is_signed=is_signed)
    return look.write(value, stderr)


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
    power = _power(value, base=base, num_units=len(units))
    scaled = value / base**power
    digits = (
        f"{scaled:.0f}"
        if abs(scaled) >= 99.95 or (power == 0 and scaled == int(scaled))
        else (f"{scaled:.3g}")
    )
    return f"{digits}{blank}{units[power]}"


def _power(value: float, *, base: int, num_units: int) -> int:
    """Returns the power of the base that leaves at most three digits, if there is a unit for it."""
    power = 0
    while abs(value) / base**power >= 999.5 and power < num_units - 1:
        power += 1
    return power


def _ends_at(value: float, places: int) -> bool:
    """Says whether a number has nothing but zeros behind so many places."""
    return abs(value - round(value, places)) < ROUNDING

"""Colours as eyes see them: contrast, difference, and what colour-blind eyes make of them."""

from __future__ import annotations

import math
from typing import Literal

from textual.color import Color

Eyes = Literal["usual", "red-blind", "green-blind"]
Triple = tuple[float, float, float]

SEEN_BY: dict[Eyes, tuple[Triple, Triple, Triple]] = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "red-blind": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "green-blind": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}
"""Of linear RGB: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0 (protanopia and
deuteranopia)."""
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Of linear sRGB with D65 (IEC 61966-2-1)."""
WHITE = (0.95047, 1.0, 1.08883)


def contrast(first: Color, second: Color) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""
    lights = sorted(_dot(TO_XYZ[1], linear(colour)) for colour in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def linear(colour: Color) -> Triple:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (byte / 255 for byte in colour.rgb)
    )
    return red, green, blue


def lab(colour: Color, eyes: Eyes = "usual") -> Triple:
    """CIELAB of what these eyes see."""
    parts = linear(colour)
    red, green, blue = (min(1.0, max(0.0, _dot(row, parts))) for row in SEEN_BY[eyes])
    x, y, z = (
        _bent(_dot(row, (red, green, blue)) / white)
        for row, white in zip(TO_XYZ, WHITE, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(first: Triple, second: Triple) -> float:
    """CIEDE2000 of two CIELAB colours (Sharma, Wu and Dalal 2005, equations 2 to 22)."""
    (light1, a1, b1), (light2, a2, b2) = first, second
    mean = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _high(mean)
    chroma1, chroma2 = math.hypot(a1 * stretch, b1), math.hypot(a2 * stretch, b2)
    hue1 = math.degrees(math.atan2(b1, a1 * stretch)) % 360
    hue2 = math.degrees(math.atan2(b2, a2 * stretch)) % 360
    is_grey = chroma1 * chroma2 == 0
    turn = 0.0 if is_grey else (hue2 - hue1 + 180) % 360 - 180
    d_hue = 2 * math.sqrt(chroma1 * chroma2) * math.sin(math.radians(turn / 2))
    light, chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    hue = hue1 + hue2 if is_grey else (hue1 + turn / 2) % 360
    factor = (
        1
        - 0.17 * _cos(hue - 30)
        + 0.24 * _cos(2 * hue)
        + 0.32 * _cos(3 * hue + 6)
        - 0.20 * _cos(4 * hue - 63)
    )
    by_light = (light2 - light1) / (
        1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2)
    )
    by_chroma = (chroma2 - chroma1) / (1 + 0.045 * chroma)
    by_hue = d_hue / (1 + 0.015 * chroma * factor)
    turned = 60 * math.exp(-(((hue - 275) / 25) ** 2))
    mixed = -math.sin(math.radians(turned)) * 2 * _high(chroma) * by_chroma * by_hue
    return math.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + mixed)


def _dot(row: Triple, column: Triple) -> float:
    return sum(one * other for one, other in zip(row, column, strict=True))


def _bent(share: float) -> float:
    return (
        float(share ** (1 / 3)) if share > (6 / 29) ** 3 else share / (3 * (6 / 29) ** 2) + 4 / 29
    )


def _high(chroma: float) -> float:
    return math.sqrt(chroma**7 / (chroma**7 + 25**7))


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))

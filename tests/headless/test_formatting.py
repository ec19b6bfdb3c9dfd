"""Text from elsewhere cannot steer a terminal; numbers read as a person writes them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halos_tui import formatting


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb", "a\\u200bb"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("日本 é 👍 [bold]", "日本 é 👍 [bold]"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert formatting.visible(text) == shown


@given(st.text())
def test_visible_text_has_no_control_character_and_is_one_line(text: str) -> None:
    shown = formatting.visible(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in shown)
    assert len(shown.splitlines()) <= 1


def test_visible_lines_keep_line_breaks_and_tabs_only() -> None:
    assert formatting.visible_lines("a\n\tb\r\x1b[0m") == "a\n\tb\\r\\x1b[0m"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.693147, "0.6931"),
        (5e-06, "5e-6"),
        (1.5e12, "1.5e12"),
        (-0.00001234, "-1.234e-5"),
        (12, "12"),
    ],
)
def test_numbers_have_four_significant_digits(value: float | None, shown: str) -> None:
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.0, "0"), (0.0312, "+0.0312"), (-0.2, "-0.2")]
)
def test_changes_have_a_sign(value: float | None, shown: str) -> None:
    assert formatting.signed(value) == shown


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.0312, 0.0214, "+0.031 ±0.021"),
        (-0.5, 0.0996, "-0.500 ±0.100"),
        (1.23456, 0.5, "+1.23 ±0.50"),
        (123.4, 56.7, "+123 ±57"),
        (1234.5, 567.8, "+1234 ±568"),
        (2e-7, 1e-7, "+2e-7 ±1e-7"),
        (0.25, 0.0, "+0.25 ±0"),
        (0.25, None, "+0.25"),
    ],
)
def test_a_figure_is_as_exact_as_its_standard_error(
    value: float, stderr: float | None, shown: str
) -> None:
    assert formatting.measured(value, stderr, is_signed=True) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-1.0, "0.0s"),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.6, "1h00m"),
        (7380, "2h03m"),
        (86400 * 4 + 3600 * 7, "4d07h"),
    ],
)
def test_durations_have_two_units(seconds: float | None, shown: str) -> None:
    assert formatting.duration(seconds) == shown


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1 KiB"),
        (999 * 1024, "999 KiB"),
        (1023 * 1024, "0.999 MiB"),
        (int(3.21 * 2**30), "3.21 GiB"),
        (2**61, "2048 PiB"),
    ],
)
def test_sizes_have_three_digits_and_a_binary_unit(num_bytes: int, shown: str) -> None:
    assert formatting.size(num_bytes) == shown


@pytest.mark.parametrize(
    ("per_s", "shown"),
    [
        (None, "-"),
        (0.0, "0 steps/s"),
        (0.25, "15 steps/min"),
        (3.14159, "3.14 steps/s"),
        (12345.0, "12.3k steps/s"),
    ],
)
def test_slow_rates_are_per_minute(per_s: float | None, shown: str) -> None:
    assert formatting.rate(per_s, "steps") == shown


def test_one_thing_is_singular() -> None:
    assert formatting.plural(1, "round") == "1 round"
    assert formatting.plural(0, "round") == "0 rounds"
    assert formatting.plural(12345, "prompt") == "12,345 prompts"


def test_columns_are_aligned_and_end_without_blanks() -> None:
    lines = formatting.columns(("name", "n"), [["a", "1"], ["long", "200"]], right="n")
    assert lines == ["name    n", "a       1", "long  200"]


def test_clipped_text_ends_in_an_ellipsis() -> None:
    assert formatting.clipped("abcdef", 6) == "abcdef"
    assert formatting.clipped("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.63980, "0.640"),
        (-7.451e-10, ">-0.001"),
        (4e-5, "<0.001"),
        (0.0, "0.000"),
        (12.345, "12.35"),
        (-123.45, "-123.5"),
        (14440.0, "14,440"),
        (float("nan"), "nan"),
    ],
)
def test_short_numbers_have_no_power_of_ten(value: float, shown: str) -> None:
    assert formatting.short_number(value) == shown


def test_values_below_each_other_share_their_places() -> None:
    assert formatting.aligned([2.5, None, -10.0]) == ["  2.50", "     -", "-10.00"]
    assert formatting.aligned([1.0, 0.0]) == ["1", "0"]
    assert formatting.aligned([123.456, -0.01]) == ["123.5", "  0.0"]
    assert formatting.aligned([]) == []

"""Text from elsewhere cannot steer a terminal; numbers read as a person writes them."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace

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
        (0.693147, "0.693"),
        (0.5, "0.5"),
        (12, "12"),
        (14440.0, "14,440"),
        (999_999.0, "999,999"),
        (1.5e12, "1.5e12"),
        (0.0001, "0.0001"),
        (0.000123456, "0.000123"),
        (5e-06, "5e-6"),
        (-0.00001234, "-1.23e-5"),
        (-7.451e-10, "0"),
        (math.nan, "nan"),
    ],
)
def test_a_number_has_three_digits_and_a_power_of_ten_only_where_it_is_very_small_or_large(
    value: float | None, shown: str
) -> None:
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.0312, 0.0214, "+0.031 ±0.021"),
        (-0.5, 0.0996, "-0.500 ±0.100"),
        (1.23456, 0.5, "+1.23 ±0.50"),
        (123.4, 56.7, "+123 ±57"),
        (1234.5, 567.8, "+1,234 ±568"),
        (2e-7, 1e-7, "+2e-7 ±1e-7"),
        (0.25, 0.0, "+0.250 ±0.000"),
        (0.25, None, "+0.250"),
        (3.0, None, "+3"),
        (0.001, 0.02, "+0.001 ±0.020"),
        (-0.0001, 0.02, "0.000 ±0.020"),
        (None, None, "-"),
    ],
)
def test_a_figure_is_as_exact_as_its_standard_error(
    value: float | None, stderr: float | None, shown: str
) -> None:
    assert formatting.measured(value, stderr, is_signed=True) == shown


def test_a_share_is_a_percentage_and_so_is_its_error() -> None:
    assert formatting.measured(0.375, 0.0412, is_share=True) == "37.5% ±4.1%"
    assert formatting.measured(0.3, 0.17, is_share=True, is_signed=True) == "+30% ±17%"
    assert formatting.measured(0.98765, is_share=True) == "98.8%"
    assert formatting.measured(1.0, is_share=True) == "100%"


@pytest.mark.parametrize(
    ("values", "errors", "texts"),
    [
        # two digits of the median error, 0.16: rewards of -0.9386 have no more than that
        ([-0.9386, 0.7042, 12.0], [0.158, 0.161, 0.9], ["-0.94", "0.70", "12.00"]),
        # three digits of the largest, 1.5
        ([1.5, 0.25, 1e-10], [], ["1.50", "0.25", "0.00"]),
        ([128.0, 1024.0, 1e-10], [], ["128", "1,024", "0"]),
        ([0.69314, 0.6398], [], ["0.693", "0.640"]),
        # 0.0002 has three digits in 0.000200, and nothing is behind the fourth
        ([0.0002, 0.0001], [], ["0.0002", "0.0001"]),
        ([2e-6, 1.234e-5], [], ["2e-6", "1.23e-5"]),
        ([5e-6], [], ["5e-6"]),
        ([1e-5], [0.02], ["0.000"]),
        ([math.nan, 2.5], [], ["nan", "2.50"]),
        ([3e12, 1.0], [], ["3e12", "1"]),
    ],
)
def test_figures_that_stand_together_share_their_places(
    values: list[float], errors: list[float], texts: list[str]
) -> None:
    look = replace(formatting.look_of(values, errors), has_error=False)
    assert [look.write(value) for value in values] == texts


def test_a_figure_without_an_error_leaves_its_room_to_those_that_have_one() -> None:
    look = formatting.look_of([0.5, 0.25], [0.1, None])
    assert [look.write(0.5, 0.1), look.write(0.25)] == ["0.50 ±0.10", "0.25      "]


def test_a_column_has_no_more_places_than_there_is_room_for() -> None:
    assert formatting.look_of([0.01251], most=3).write(0.01251) == "0.013"


def test_points_stand_in_one_column_whatever_is_behind_them() -> None:
    texts = ["-0.94 ±0.16", "1,024", "53.0%", "415 MiB", "-", "unscored", "+1m05s"]
    assert formatting.at_point(texts) == [
        "      -0.94 ±0.16",
        "   1,024         ",
        "      53.0%      ",
        "     415 MiB     ",
        "       -         ",
        "unscored         ",
        "      +1m05s     ",
    ]
    assert formatting.at_point([]) == []


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("sample.truncated_frac", "share"),
        ("implicit_reward_accuracy", "share"),
        ("train.peak_memory_bytes", "size"),
        ("label.elapsed_s", "time"),
        ("sample.tokens_per_s", "number"),
        ("label.num_pairs_kept", "count"),
        ("loss", "number"),
    ],
)
def test_a_name_says_what_its_figure_counts(name: str, unit: str) -> None:
    assert formatting.unit_of(name) == unit


@pytest.mark.parametrize(
    ("unit", "largest", "factor", "suffix"),
    [
        ("share", 0.5, 100, "%"),
        ("size", 3 * 2**30, 2**-30, " GiB"),
        ("size", 500, 1, " B"),
        ("time", 0.5, 1, "s"),
        ("time", 119, 1, "s"),
        ("time", 120, 1 / 60, "m"),
        ("time", 7200, 1 / 3600, "h"),
        ("number", 1e9, 1, ""),
    ],
)
def test_figures_have_the_unit_that_fits_the_largest(
    unit: formatting.Unit, largest: float, factor: float, suffix: str
) -> None:
    assert formatting.denomination(unit, largest) == (factor, suffix)


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


def test_values_below_each_other_share_their_places() -> None:
    assert formatting.aligned([2.5, None, -10.0]) == ["  2.5", "    -", "-10.0"]
    assert formatting.aligned([1.0, 0.0]) == ["1", "0"]
    assert formatting.aligned([123.456, -0.01]) == ["123", "  0"]
    assert formatting.aligned([]) == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("loss 0.5", "loss "),
        ("reward -0.46 ±0.1", "reward -0.46 "),
        ("reward -0.46 ±", "reward -0.46 "),
        ("20 steps, lo", "20 steps, lo"),
        ("at 14:1", "at "),
        ("12", ""),
        ("sweep-lr1", "sweep-lr1"),
        ("round-2", "round-2"),
        ("", ""),
    ],
)
def test_a_figure_at_the_end_of_a_text_that_is_cut_is_left_out(text: str, kept: str) -> None:
    assert formatting.without_last_figure(text) == kept

"""Where no app can be shown, and options of the app where they mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.headless.conftest import Halos
from tests.headless.made_run import MadeRun


@pytest.mark.parametrize("arguments", [(), ("attach", "a-run"), ("--read-only",)])
def test_without_a_terminal_one_sentence_says_what_there_is_instead(
    halos: Halos, runs: Path, arguments: tuple[str, ...]
) -> None:
    MadeRun(runs)
    refused = halos(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "the app needs a terminal, and its input is none" in refused.stderr
    assert "halos-tui list" in refused.stderr


def test_attach_names_a_run_that_is_not_there(halos: Halos) -> None:
    refused = halos("attach", "nope")
    assert refused.returncode == 4
    assert "nope" in refused.stderr


@pytest.mark.parametrize("verb", [(), ("attach",), ("run",), ("demo",)])
def test_help_names_the_options_of_the_app(halos: Halos, verb: tuple[str, ...]) -> None:
    helped = halos(*verb, "--help").stdout
    for option in ("--read-only", "--ascii", "--no-mouse", "--theme", "--runs-dir"):
        assert option in helped

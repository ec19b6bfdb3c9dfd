"""The app in tmux, which detaches, comes back in another size, and dies."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.demo_run import DemoRun
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Tmux:
    """A server of its own, with one window."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._command = ["tmux", "-S", str(folder / "tmux"), "-f", os.devnull]
        self._environment = {name: value for name, value in environment.items() if name != "TMUX"}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            env={**self._environment, "TERM": "xterm-256color"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    @property
    def screen(self) -> str:
        return self("capture-pane", "-p")

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.screen, f"{text!r} in tmux")


def test_the_app_lives_in_tmux_and_the_run_outlives_tmux(long_run: DemoRun, tmp_path: Path) -> None:
    tmux = Tmux(tmp_path, long_run.environment)
    app = shlex.join([sys.executable, "-m", "halos_tui", "attach", long_run.name])
    tmux("new-session", "-d", "-x", "80", "-y", "24", app)
    try:
        tmux.wait_for("running")
        tmux("resize-window", "-x", "132", "-y", "43")
        tmux.wait_for("reward before training")
        tmux("send-keys", "?")
        tmux.wait_for("All keys of this screen")
        tmux("send-keys", "Escape")
        wait_for(lambda: "All keys of this screen" not in tmux.screen, "the run again")
    finally:
        tmux("kill-server")
    wait_for(lambda: long_run.apps == [], "the app ends with its terminal")
    long_run.goes_on()

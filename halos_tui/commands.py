"""Owns the names of the verbs, and how the person at this terminal can call the program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

from halos_backend.store import run_dir as run_dirs
from halos_backend.store.run_dir import RunDir

NAME = "halos-tui"
VERBS = {
    "run": "run",
    "demo": "demo",
    "init": "init",
    "doctor": "doctor",
    "list": "list_runs",
    "status": "status",
    "watch": "watch",
    "attach": "attach",
    "pause": "pause",
    "resume": "resume",
    "retry": "retry",
    "set": "set_settings",
    "extend": "extend",
    "abort": "abort",
    "fork": "fork",
    "title": "own_words",
    "note": "own_words",
    "tag": "own_words",
    "rm": "rm",
    "du": "du",
    "logs": "logs",
    "completions": "completions",
    "export": "export",
}
"""This table gives each verb its module of `halos_tui.cli`, whose function `command` is the verb; a
module of several verbs has a function of each name."""
_RUN = r"'[^']*'|[\w./~-]*[\w/]"
_OPTION = r"--(?:round|rounds|runs-dir|name|from-round|set) (?:'[^']*'|\S+)|--[a-z-]+"
COMMAND_LINE = re.compile(
    rf"(?<![\w/.-])(?<!\$ ){NAME} (?P<verb>{'|'.join(VERBS)})\b(?: (?:{_RUN})(?!=))?"
    rf"(?P<more>(?: (?:{_OPTION}|[A-Za-z_.]+=(?:'[^']*'|[\w.-]*\w)))*)"
)
"""A whole command in a text: the verb, the run, options and settings. One behind `$ ` is left out,
for it is there to be copied."""
COMMAND = re.compile(rf"(?<![\w/.-]){NAME}(?= (?:{'|'.join(VERBS)}|--help)\b)")


@cache
def program() -> str:
    """Returns what to type for this very program: its name where PATH leads to it, else its
    path.
    """
    script = Path(sys.executable).with_name(NAME)
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m halos_tui"
    found = shutil.which(NAME)
    if found is not None and Path(found).samefile(script):
        return NAME
    relative = os.path.relpath(script)
    return shlex.quote(str(script) if relative.startswith("..") else relative)


def as_called(text: str) -> str:
    """Writes the commands of a text so that they work when they are typed here."""
    return COMMAND.sub(lambda _match: program(), text)


def command_for(run_dir: RunDir, verb: str, *arguments: str) -> str:
    """Returns `halos-tui VERB RUN`, with --runs-dir where the run is not in the default place."""
    return as_called(run_dirs.command_for(run_dir, verb, *arguments))

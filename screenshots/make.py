"""Takes the pictures of README and docs: `make.py MODEL [NAME ...]` writes `NAME.svg` here.

It makes three small runs of the model, opens the program on a terminal as a person would, presses
keys, and draws what stands on the terminal then. With `--keep` the runs stay for the next call.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from screenshots.picture import Cell, Frame, Row, animation, picture, rows_of, text_of
from tests.support.terminal import Terminal

HERE = Path(__file__).parent
COLUMNS, LINES = 120, 36
PLACE = Path(tempfile.gettempdir()) / "halos"
"""It is short, and the same on all machines, since it stands in the pictures."""
INPUTS = ("short.toml", "prompts.jsonl", "judge.py")
HUB_FOLDER = "hub/models--HuggingFaceTB--SmolLM2-135M-Instruct"
"""A model in there has the name that people would write, and needs no network."""
SHOWN, DONE, PAUSED = "short-dpo", "short-kto", "short-grpo"
SETTINGS = {
    SHOWN: (),
    DONE: ("train.loss.kind=kto", "label.feedback.kind=binary", "train.batch_size=8",
           "train.num_epochs=1", "loop.num_rounds=3"),
    PAUSED: ("train.loss.kind=grpo", "label.feedback.kind=scalar", "train.batch_size=8",
             "train.num_epochs=1", "loop.num_rounds=6", "loop.pause_after_each_round=true"),
}  # fmt: skip
ROUNDS_BEFORE_CHANGE, ROUNDS_BEFORE_PICTURES = 2, 4
DEADLINE_S = 1800.0
PERSON, MACHINE = "alice", "pc"
EMPTY = re.compile(
    r"\b(nothing (is(?! lost)|was|fits)|no values? (yet|above)|no round has|it is empty)\b"
)
PATH = re.compile(r"(?<![\w./~-])/\w[\w.-]*/[\w./-]+")
CHANGED, NEW_LR = "train.lr", "2.5e-6"
CONTROL_R = "\x12"
POLL_S = 2.0
MOST_WAITING = 6


class Scene(NamedTuple):
    """Says what is opened and pressed, and which text stands there then; `again` leads there."""

    shows: str
    keys: tuple[str, ...] = ()
    again: str = ""
    theme: str = "dark"
    arguments: tuple[str, ...] = ("attach", SHOWN)


SCENES = {
    "run": Scene("what it says"),
    "run_light": Scene("what it says", theme="light"),
    "runs": Scene(PAUSED, arguments=()),
    "completions": Scene("reward", ("c", "g")),
    "metrics": Scene("reward", ("m", "left")),
    "changes": Scene(CHANGED, ("h",)),
    "tweak": Scene(CHANGED, ("t", "enter", "ctrl+u", *"2e-6", "enter")),
    "new_run": Scene(CHANGED, ("n",)),
    "logs": Scene("words", ("l",), again="["),
    "help": Scene("Quit", ("?",)),
}
ANIMATION = "pause_tweak_resume"
"""It comes before the others: the change stands in their pictures."""


def main() -> None:
    keeps = "--keep" in sys.argv
    model, *names = [argument for argument in sys.argv[1:] if argument != "--keep"]
    known = [ANIMATION, *SCENES]
    if unknown := set(names) - set(known):
        raise SystemExit(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    prepare(Path(model).resolve())
    try:
        make_runs()
        for name in names or known:
            (HERE / f"{name}.svg").write_text(take(name))
    finally:
        leave(keeps=keeps)


def prepare(model: Path) -> None:
    """Makes the folder that the runs live in, unless it was kept."""
    snapshot = PLACE / HUB_FOLDER / "snapshots" / "main"
    if not PLACE.exists():
        snapshot.mkdir(parents=True)
        for file in model.iterdir():
            (snapshot / file.name).symlink_to(file)
        (PLACE / HUB_FOLDER / "refs").mkdir()
        (PLACE / HUB_FOLDER / "refs" / "main").write_text("main")
        for name in INPUTS:
            shutil.copy(HERE / name, PLACE)
    elif not snapshot.is_dir():
        raise SystemExit(f"{PLACE} is not of these pictures; move it away first")
    os.chdir(PLACE)
    os.environ |= {
        "HALOS_RUNS_DIR": str(PLACE / "runs"),
        "HALOS_CACHE_DIR": str(PLACE / "cache"),
        "XDG_CONFIG_HOME": str(PLACE / "config"),
        "HF_HOME": str(PLACE),
        "HF_HUB_OFFLINE": "1",
        "LOGNAME": PERSON,
        "COLORTERM": "truecolor",
        "TZ": "UTC",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    os.environ.pop("NO_COLOR", None)


def leave(*, keeps: bool) -> None:
    if state_of(SHOWN) is not None:
        halos("pause", SHOWN, "--at", "stage") if keeps else halos("abort", SHOWN, "--yes")
    if not keeps:
        shutil.rmtree(PLACE)


def make_runs() -> None:
    """Makes those that are not there; the one that is shown is at work from now on."""
    if state_of(DONE) is None:
        start(DONE)
    if state_of(PAUSED) is None:
        start(PAUSED)
        halos("resume", PAUSED, "--no-ui")
    match state_of(SHOWN):
        case None:
            start(SHOWN, "--detach")
        case state if state.status == "paused":
            halos("resume", SHOWN, "--detach")


def start(name: str, *options: str) -> None:
    changes = [word for setting in SETTINGS[name] for word in ("--set", setting)]
    halos("run", "short.toml", "--name", name, "--no-ui", *options, *changes)
    if state_of(name) is None:
        raise SystemExit(f"the run {name} did not start")


def halos(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "halos_tui", *arguments], check=False)


def state_of(name: str) -> RunState | None:
    run = RunDir(PLACE / "runs" / name)
    return load_state(run) if run.path.is_dir() else None


def wait_for_rounds(number: int) -> None:
    """Waits until so many rounds of the run that is shown are done, and one more is begun."""
    end = time.monotonic() + DEADLINE_S
    while (state := state_of(SHOWN)) is None or len(state.rounds) <= number:
        if time.monotonic() > end or (state and state.status not in ("created", "running")):
            raise SystemExit(f"{SHOWN} is {state and state.status}, before round {number + 1}")
        time.sleep(1.0)


def opened(*arguments: str, theme: str = "dark") -> Terminal:
    command = [sys.executable, "-m", "halos_tui", *arguments, "--theme", theme]
    return Terminal(command, environment=os.environ, columns=COLUMNS, lines=LINES)


def take(name: str) -> str:
    if name == ANIMATION:
        frames = [checked(name, frame) for frame in change_learning_rate()]
        return animation(frames, "A run is paused, gets another learning rate, and goes on")
    wait_for_rounds(ROUNDS_BEFORE_PICTURES)
    scene = SCENES[name]
    with opened(*scene.arguments, theme=scene.theme) as terminal:
        terminal.wait_for(SHOWN)
        terminal.settle()
        terminal.press(*scene.keys, pause_s=0.3)
        while scene.again and scene.shows not in terminal.settle():
            terminal.press(scene.again)
        terminal.wait_for(scene.shows)
        terminal.settle()
        frame = seen(terminal)
    return picture(checked(name, frame), f"halos-tui: {name.replace('_', ' ')}")


def change_learning_rate() -> list[Frame]:
    """Pauses the run, halves its learning rate and resumes it; returns what is seen meanwhile."""
    wait_for_rounds(ROUNDS_BEFORE_CHANGE)
    with opened("attach", SHOWN) as terminal:
        terminal.wait_for("what it says")
        frames = [look(terminal, "A run at work. The log goes on, whatever you do.", 3.0)]
        terminal.press("p")
        terminal.wait_for("sooner")
        frames.append(look(terminal, "p pauses it at the end of the round, or sooner.", 3.0))
        terminal.press("s")
        frames += wait_and_look(terminal, "paused", "It stops once this stage is done.")
        terminal.press("t")
        terminal.wait_for(CHANGED)
        frames.append(look(terminal, "t tweaks its settings.", 2.0))
        terminal.press("enter", "ctrl+u", pause_s=0.3)
        frames += type_and_look(terminal, NEW_LR, "enter edits the learning rate.")
        terminal.press("enter")
        frames.append(look(terminal, "The form says what follows from the change.", 3.0))
        terminal.press(CONTROL_R)
        terminal.wait_for("then the run goes on?")
        frames.append(look(terminal, "ctrl+r changes it and resumes the run.", 3.0))
        terminal.press("y")
        terminal.wait_for("running")
        frames += wait_and_look(terminal, "▸ train", "The run goes on.")
    return frames


def wait_and_look(terminal: Terminal, text: str, caption: str) -> list[Frame]:
    """Waits for the text; minutes of waiting are a few frames, and the end is seen for longer."""
    waiting = []
    while text not in terminal.text:
        waiting.append(look(terminal, caption, 0.7))
        time.sleep(POLL_S)
    kept = waiting[:: len(waiting) // MOST_WAITING + 1]
    terminal.settle()
    return [*kept, look(terminal, caption, 3.0)]


def type_and_look(terminal: Terminal, text: str, caption: str) -> Iterator[Frame]:
    for letter in text:
        terminal.press(letter)
        yield look(terminal, caption, 0.3)
    yield look(terminal, caption, 1.5)


def look(terminal: Terminal, caption: str, shown_s: float) -> Frame:
    terminal.settle(0.2)
    return seen(terminal)._replace(caption=caption, shown_s=shown_s)


def seen(terminal: Terminal) -> Frame:
    return Frame(tuple(map(without_host, rows_of(terminal.cells))))


def without_host(row: Row) -> Row:
    """Returns the row with another name in place of this machine's, in as many cells."""
    here = f"{PERSON}@{socket.gethostname()}"
    shown = f"{PERSON}@{MACHINE}"[: len(here)].ljust(len(here))
    at = text_of(row).find(here)
    if at < 0 or len(text_of(row)) != len(row):
        return row
    cells = [Cell(letter, row[at + n].look) for n, letter in enumerate(shown)]
    return without_host((*row[:at], *cells, *row[at + len(here) :]))


def checked(name: str, frame: Frame) -> Frame:
    """Returns the frame, unless a panel is empty in it or this machine is named."""
    text = "\n".join(map(text_of, frame.rows))
    for number, line in enumerate(text.splitlines(), 1):
        if found := EMPTY.search(line):
            raise SystemExit(f"{name}: line {number} says {found[0]!r}:\n{text}")
    if title := blank_panel(frame.rows):
        raise SystemExit(f"{name}: the panel {title!r} is empty:\n{text}")
    if told := personal(text):
        raise SystemExit(f"{name}: {told!r} is of this machine:\n{text}")
    return frame


def personal(text: str) -> str:
    """Returns what tells whose machine this is: a path, the user, the host."""
    paths = [path for path in PATH.findall(text) if not str(path).startswith(str(PLACE))]
    names = [f"@{socket.gethostname()}", str(Path.home()), str(HERE.parent)]
    return next(iter([*paths, *(name for name in names if name in text)]), "")


def blank_panel(rows: Sequence[Row]) -> str:
    """Returns the upper border of a box that has nothing in it, else no text.

    A box that another one covers a corner of is taken for full.
    """
    texts = [[cell.text or " " for cell in row] for row in rows]
    for top, line in enumerate(texts):
        for left in (x for x, text in enumerate(line) if text == "╭"):
            below = [row[left] for row in texts[top + 1 :]]
            if "╮" not in line[left:] or "╰" not in below:
                continue
            right, height = line.index("╮", left), below.index("╰")
            inside = (row[left + 1 : right] for row in texts[top + 1 : top + 1 + height])
            if not any("".join(part).strip() for part in inside):
                return "".join(line[left : right + 1])
    return ""


if __name__ == "__main__":
    main()

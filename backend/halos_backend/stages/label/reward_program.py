"""Calls a person's function: `python -m halos_backend.stages.label.reward_program FD FILE NAME`.

Their function runs in this program: its standard output is the log, its working directory the
file's, its arguments the file alone. It takes calls over the socket pair of descriptor FD, and ends
when the other end is closed or its parent dies. The file is a module under its own name, in this
process and in those of a pool that it may start.

It imports little, and nothing that is not in the file's own environment.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import importlib
import importlib.util
import inspect
import numbers
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import msgspec

from halos_backend.stages.channel import Channel
from halos_backend.stages.label.judge import RewardOrReason, Unscored, checked, short_reason

MODULE = "HALOS_REWARD_MODULE"
"""Names the environment variable that tells the processes of a pool the module's name and file:
NAME=FILE.
"""
PR_SET_PDEATHSIG = 1

Function = Callable[[list[dict[str, Any]], str, dict[str, Any]], Any]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Says that what is printed from now on belongs into this log."""

    log: str


class Call(msgspec.Struct, frozen=True):
    """Is one call; `number` is what the completion is called in the answer."""

    number: int
    completion_id: str
    prompt: list[dict[str, Any]]
    completion: str
    row: dict[str, Any]


class Calls(msgspec.Struct, frozen=True, tag=True):
    """Holds calls: those of an `async def` function are awaited side by side, others come one after
    another.
    """

    calls: list[Call]


Order = Begin | Calls


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Says that the function is there.

    `files` are those beside it that it consists of, its own first; `is_stale`: one of them has
    changed since it was imported.
    """

    files: list[str]
    is_stale: bool = False


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Says that there is no such function, or that its file cannot be imported, and the fix."""

    reason: str
    fix: str = ""


class Judged(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Brings a reward, or why there is none; see `Unscored`."""

    number: int
    reward: float | None = None
    unscored: str = ""
    is_error: bool = False


Answer = Ready | Refused | Judged


class NotLoadedError(Exception):
    """Says in words why there is no function, and what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class OneFile:
    """Finds one module, by a name that no search path need have."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path)


class Program:
    """Answers calls of one function until nobody is there any more."""

    def __init__(self, channel: Channel, path: Path, function: Function) -> None:
        self._channel = channel
        self._path = path
        self._function = function
        self._has_logged = False
        self._loop: Any = None

    def serve(self) -> None:
        while not self._channel.is_closed:
            for order in self._channel.receive(wait=True):
                match order:
                    case Begin(log=log):
                        redirect(Path(log))
                        self._has_logged = False
                        self.tell_ready()
                    case Calls(calls=calls):
                        self._judge(calls)

    def tell_ready(self) -> None:
        files = files_beside(self._path)
        is_stale = any(_mtime(path) > STARTED for path in files)
        self._channel.send(Ready([str(path) for path in files], is_stale))

    def _judge(self, calls: Sequence[Call]) -> None:
        awaited: list[tuple[Call, Awaitable[Any]]] = []
        for call in calls:
            try:
                returned = self._function(call.prompt, call.completion, call.row)
            except BaseException as error:  # noqa: BLE001  somebody else's code, SystemExit too
                self._answer(call, self._failed(call, error))
                continue
            if hasattr(returned, "__await__"):
                awaited.append((call, returned))
            else:
                self._answer(call, reward_of(returned))
        if awaited:
            import asyncio  # this takes 0.05 s that others need not wait

            self._loop = self._loop or asyncio.Runner()  # clients of theirs belong to one loop
            self._loop.run(self._await_all(awaited))

    async def _await_all(self, awaited: Sequence[tuple[Call, Awaitable[Any]]]) -> None:
        import asyncio

        await asyncio.gather(*(self._await_one(call, returned) for call, returned in awaited))

    async def _await_one(self, call: Call, awaitable: Awaitable[Any]) -> None:
        try:
            reward = reward_of(await awaitable)
        except BaseException as error:  # noqa: BLE001
            reward = self._failed(call, error)
        self._answer(call, reward)

    def _answer(self, call: Call, reward: RewardOrReason) -> None:
        if isinstance(reward, Unscored):
            answer = Judged(call.number, unscored=reward.reason, is_error=reward.is_error)
        else:
            answer = Judged(call.number, reward)
        self._channel.send(answer)

    def _failed(self, call: Call, error: BaseException) -> Unscored:
        """Says how a call failed. One traceback is enough to mend the function; thousands would
        fill the log.
        """
        if not self._has_logged:
            self._has_logged = True
            name = getattr(self._function, "__name__", "the function")
            say(f"label.judge.function: {self._path}:{name} on {call.completion_id}:")
            traceback.print_exception(error)
        return Unscored(short_reason(f"judge raised {described(error)}"), is_error=True)


def reward_of(returned: Any) -> RewardOrReason:
    """Reads what a function returned as a reward: any one real number, True 1 and False 0.

    Arrays and tensors of one element are numbers, whatever library they are of.
    """
    if returned is None:
        return Unscored("judge returned None")
    kind = type(returned).__name__
    try:
        number = returned
        if not isinstance(returned, numbers.Number) and callable(getattr(returned, "item", None)):
            number = returned.item()
        if not isinstance(number, numbers.Real | Decimal):
            return Unscored(f"judge returned {kind}", is_error=True)
        return checked(float(number))
    except OverflowError:
        return Unscored("reward is inf", is_error=True)
    except Exception:  # noqa: BLE001  an array of several, a signalling NaN
        return Unscored(f"judge returned {kind}, which is no number", is_error=True)


def load_function(path: Path, name: str) -> Function:
    """Imports the file and takes `name` of it. Raises NotLoadedError."""
    if not path.is_file():
        raise NotLoadedError(f"there is no file {path}", "name a file.py:name that is there")
    module_name = free_name(path)
    make_importable(module_name, path)
    os.environ[MODULE] = f"{module_name}={path}"
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        traceback.print_exc()
        how, fix = _how_it_failed(error, path)
        raise NotLoadedError(f"importing {path} {how}", fix) from error
    function = getattr(module, name, None)
    wanted = f"define {name}(prompt, completion, row) in it"
    if not callable(function):
        what = "has no" if function is None else "is not a function:"
        raise NotLoadedError(f"{path.name} {what} {name}", wanted)
    _check_arguments(function, f"{path.name}: {name}", wanted)
    return function


def _check_arguments(function: Function, name: str, wanted: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one that is written in C says nothing of its arguments
        return
    try:
        signature.bind([], "", {})
    except TypeError as error:
        raise NotLoadedError(f"{name}{signature} does not take three arguments", wanted) from error


def free_name(path: Path) -> str:
    """Returns the file's own name, unless that is no name or a module that others may
    mean has it.
    """
    name = path.stem
    is_taken = not name.isidentifier() or name in sys.stdlib_module_names or name in sys.modules
    if not is_taken and (other := importlib.util.find_spec(name)) is not None:
        is_taken = other.origin != str(path)
    return f"halos_judge_{re.sub(r'[^0-9A-Za-z_]', '_', name)}" if is_taken else name


def make_importable(name: str, path: Path) -> None:
    """Makes the file a module under that name; its neighbours come last, so that they shadow
    nothing.
    """
    sys.meta_path.insert(0, OneFile(name, path))
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)


def files_beside(path: Path) -> list[Path]:
    """Returns the file, and what has been imported from its folder and those below it."""
    found = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    beside = {
        Path(file)
        for file in found
        if isinstance(file, str)
        and file.startswith(f"{path.parent}{os.sep}")
        and "site-packages" not in file
    }
    return [path, *sorted(beside - {path})]


def described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def redirect(log: Path) -> None:
    """Sends standard output and standard error to the end of that file."""
    flush()
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # theirs to close or to replace
            continue


def say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  the log


def _how_it_failed(error: BaseException, path: Path) -> tuple[str, str]:
    """Says how a call failed, with the line of the file where that is known, and what to do."""
    if isinstance(error, SystemExit):
        return (
            f"ended its program with {described(error)}",
            "put what is to run as a program under if __name__ == '__main__'",
        )
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" in line {line}" if line else ""
    return f"raised {short_reason(described(error))}{where}", "mend the file"


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return STARTED + 1.0


def _end_with_parent() -> None:
    """Ends with the parent, however that ends: it may be killed while a call takes long."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    fd, path, name = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    _end_with_parent()
    os.set_inheritable(fd, False)
    faulthandler.enable()
    os.environ.pop("PYTHONSAFEPATH", None)  # ours; scripts that the function starts have neighbours
    sys.argv[:] = [str(path)]
    # Python knows bytecode by the second and size of its file: one mended at once stays the old one
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    channel = Channel(socket.socket(fileno=fd), Order)
    try:
        program = Program(channel, path, load_function(path, name))
        program.tell_ready()
        program.serve()
    except NotLoadedError as error:
        channel.send(Refused(error.reason, error.fix))
    except OSError:  # nobody is there any more
        pass


STARTED = time.time()

if __name__ == "__main__":
    main()
    atexit._run_exitfuncs()  # pools of theirs end
    flush()
    os._exit(0)  # torch's tear-down would take a second
elif __name__ == "__mp_main__" and MODULE in os.environ:
    _name, _, _path = os.environ[MODULE].partition("=")
    make_importable(_name, Path(_path))

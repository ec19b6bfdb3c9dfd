"""A program that has imported what the stages import, and forks once for each program asked for.

Importing torch and transformers takes a stage 6 seconds of a core. Where a test is about what a
program does, and not about how its process begins, `fork_client.py` stands for the interpreter: it
hands its command line, environment and open files over, and the program begins in a fork of this
process. This process has one thread and no thread pools, so that a fork is as good as a new one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

BACKLOG = 64
BLOCK = 1 << 16
READ_ON_IMPORT = (
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH", "PYTORCH_", "CUDA", "VLLM_"),
    *("PYTHONPATH", "PYTHONIOENCODING", "PYTHONUTF8", "LANG", "LC_", "TYPER_"),
)
CHANGE = "HALOS_TEST_CHANGE"
"""Names a file of Python that is executed before the program."""
SET_BY_US = ("TORCHELASTIC_", "TORCH_NCCL_")


def main(address: Path, modules: Sequence[str]) -> None:
    """Imports the modules, and serves until the process that started this one has ended."""
    owner, given = os.getppid(), dict(os.environ)
    import_libraries(modules)
    imported = {name: value for name, value in os.environ.items() if given.get(name) != value}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        unfinished = address.with_suffix(".new")
        listening.bind(str(unfinished))
        listening.listen(BACKLOG)
        unfinished.rename(address)
        while os.getppid() == owner:
            reap_keepers()
            if select.select([listening], [], [], 1.0)[0]:
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    keep(connection, given, imported)
                connection.close()


def reap_keepers() -> None:
    """What they and their programs took is counted as this process's, and so as the test's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_libraries(modules: Sequence[str]) -> None:
    """A collector that goes through thousands of modules again and again takes a fifth longer."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def keep(
    connection: socket.socket, given: Mapping[str, str], imported: Mapping[str, str]
) -> NoReturn:
    """Start the program that was asked for, and tell its exit code; it ends with who asked.

    `given` are the variables that the libraries were imported with, `imported` those that they set.
    """
    content, files, _, _ = socket.recv_fds(connection, BLOCK, 3)
    while not content.endswith(b"\n"):
        content += connection.recv(BLOCK)
    program = json.loads(content)
    code = None
    if read_on_import(program["environment"]) == read_on_import(given):
        if (pid := os.fork()) == 0:
            connection.close()
            program["environment"] |= imported
            become(program, files)
        code = wait_for(pid, connection)
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(code).encode())
    os._exit(0)


def read_on_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_ON_IMPORT) and not name.startswith(SET_BY_US)
    }


def wait_for(pid: int, connection: socket.socket) -> int:
    """Its exit code; meanwhile signals are passed on, and it is killed with who asked for it."""
    ended = os.pidfd_open(pid)
    while ended not in select.select([connection, ended], [], [])[0]:
        asked = connection.recv(1)
        os.kill(pid, asked[0] if asked else signal.SIGKILL)
        if not asked:
            break
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become(program: dict[str, Any], files: list[int]) -> NoReturn:
    """Be the program `python -m module arguments`, as far as it can tell."""
    os.setsid()
    gc.unfreeze = lambda: None  # an engine that ends would have it go through all these libraries
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open_streams(program["environment"])
    os.chdir(program["folder"])
    os.environ.clear()
    os.environ.update(program["environment"])
    time.tzset()
    sys.executable = program["python"]
    module, *arguments = program["arguments"]
    sys.argv = [module, *arguments]
    code: Any = 0
    try:
        if change := os.environ.get(CHANGE):
            runpy.run_path(change)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001  the edge of the process
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def open_streams(environment: Mapping[str, str]) -> list[io.TextIOWrapper]:
    """As the interpreter opens them, whose own are still those of this program."""
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    modes = (("rb", "strict"), ("wb", "strict"), ("wb", "backslashreplace"))
    return [
        io.TextIOWrapper(
            open(number, mode, closefd=False),
            encoding="utf-8",
            errors=errors,
            line_buffering=number == sys.stderr.fileno(),
            write_through=unbuffered,
        )
        for number, (mode, errors) in enumerate(modes)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Stands for the interpreter: asks `fork_server.py` for the programs that it has the libraries of.

`fork_client.py PYTHON ADDRESS STAND_IN ARGUMENTS...`: where STAND_IN is how this is started, and so
what the programs take for their interpreter. All other programs are PYTHON's. Signals are passed
on, and the program ends with this process, however that ends.
"""

import json
import os
import signal
import socket
import sys

FORKED = (
    "halos_tui",
    "halos_backend.stages.label",
    "halos_backend.stages.prepare",
    "halos_backend.stages.sample",
    "halos_backend.stages.train",
    "halos_backend.stages.vllm.choose",
    "tests.support.drive_halos",
    "tests.support.drive_supervisor",
    "torch.distributed.run",
)
BOOTSTRAP = "/halos_backend/interpreters/bootstrap.py"
"""Begins a program of ours in an interpreter that is not ours."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
KILLS = signal.SIGUSR1
"""Kills the program, and this process once that is gone; SIGKILL would reach this process first."""
AS_STAND_IN = (
    "import runpy, sys; sys.executable = sys.argv.pop(1);"
    " runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)


def main() -> None:
    python, address, stand_in, *arguments = sys.argv[1:]
    options = [argument for argument in arguments[:1] if argument == "-u"]
    match arguments[len(options) :]:
        case [first, module, *rest] if is_forked(first, module):
            ask(address, {"python": stand_in, "arguments": [module, *rest]})
            os.execv(python, [python, *arguments])
        case ["-m", module, *rest]:
            code = AS_STAND_IN.format(module=module)
            os.execv(python, [python, *options, "-c", code, stand_in, *rest])
        case _:
            os.execv(python, [python, *arguments])


def is_forked(first: str, module: str) -> bool:
    return (first == "-m" or first.endswith(BOOTSTRAP)) and module in FORKED


def ask(address: str, program: dict[str, object]) -> None:
    """Does not return, but where the server's libraries were imported for other variables."""
    about = {**program, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109  pathlib takes as long to import as all else
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(address)
        for number in PASSED_ON:
            signal.signal(number, lambda which, _frame: server.sendall(bytes([which])))
        signal.signal(KILLS, lambda *_: server.sendall(bytes([signal.SIGKILL])))
        content = json.dumps(about).encode() + b"\n"
        socket.send_fds(server, [content[:1]], [0, 1, 2])
        server.sendall(content[1:])
        answer = b""
        while part := server.recv(64):
            answer += part
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    code = json.loads(answer or "1")
    if code is None:
        return
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()

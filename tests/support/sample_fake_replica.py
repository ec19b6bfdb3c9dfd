"""A replica without an engine: `python sample_fake_replica.py ... FD`, started in place of ours.

FAKE_REPLICA says what it does on each order: a JSON object from the order's name to a list of
answers to send, and of {"do": ...}: "exit" with code 7, "touch" `path` a moment later, "linger"
with a child, whose number goes into `path`, when the other end is closed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

USUAL: dict[str, list[dict[str, Any]]] = {
    "Begin": [{"type": "Ready"}],
    "Park": [{"type": "Parked"}],
}


def main() -> None:
    says = {**USUAL, **json.loads(os.environ["FAKE_REPLICA"])}
    channel = socket.socket(fileno=int(sys.argv[-1]))
    lingers = False
    for line in channel.makefile("rb"):
        for answer in says[json.loads(line)["type"]]:
            match answer.get("do"):
                case "exit":
                    os._exit(7)
                case "touch":
                    time.sleep(0.2)
                    Path(answer["path"]).touch()
                case "linger":
                    child = subprocess.Popen(["sleep", "1000"])
                    Path(answer["path"]).write_text(str(child.pid))
                    lingers = True
                case _:
                    channel.sendall(json.dumps(answer).encode() + b"\n")
    if lingers:
        signal.pause()


if __name__ == "__main__":
    main()

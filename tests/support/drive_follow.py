"""Follows a run directory as `run` does once it has started a supervisor; its owner's terminal."""

import sys
from pathlib import Path

from halos_backend.store.run_dir import RunDir

from halos_tui.cli.following import OWNER_FOOTER, make_output
from halos_tui.headless.follow import Follower
from halos_tui.headless.interrupts import Signals, somebody_can_answer
from halos_tui.tracking.run_tail import RunTail

if __name__ == "__main__":
    json = "--json" in sys.argv
    tail = RunTail(RunDir(Path(sys.argv[1])))
    with Signals() as signals:
        output = make_output(json=json, footer=OWNER_FOOTER)
        asks = somebody_can_answer() and not json
        code = Follower(tail, output, signals, owns=True, asks=asks).follow()
    sys.exit(code)

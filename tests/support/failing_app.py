"""Our command line with an app that a press of ctrl+t ends: `failing_app.py PLACE ...`."""

from __future__ import annotations

import asyncio
import sys
import threading

from halos_backend.errors import UsageError

from halos_tui.app import HalosApp
from halos_tui.cli.main import main


def fail() -> None:
    raise KeyError("of ours")


class Failing:
    """What ctrl+t does, by the place that it fails in."""

    @staticmethod
    def handler(app: HalosApp) -> None:
        fail()

    @staticmethod
    def worker(app: HalosApp) -> None:
        app.run_worker(fail, thread=True)

    @staticmethod
    def thread(app: HalosApp) -> None:
        threading.Thread(target=fail).start()

    @staticmethod
    def usage(app: HalosApp) -> None:
        raise UsageError("mend this")

    @staticmethod
    def cancelled(app: HalosApp) -> None:
        raise asyncio.CancelledError


if __name__ == "__main__":
    HalosApp.take_next_theme = getattr(Failing, sys.argv[1])  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))

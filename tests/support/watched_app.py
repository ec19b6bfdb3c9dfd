"""The app with a watchdog on its event loop: `watched_app.py RUNS_DIR BLOCKS_FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from halos_tui.app_options import AppOptions
from halos_tui.cli.opening import collected_rarely
from tests.support.watchdog import Watchdog

with collected_rarely():
    from halos_tui.app import HalosApp


class WatchedApp(HalosApp):
    """Textual calls this `on_mount` before that of the app itself."""

    def on_mount(self) -> None:
        self.watchdog = Watchdog().__enter__()


def main() -> None:
    runs, blocks = map(Path, sys.argv[1:])
    app = WatchedApp(AppOptions(runs))
    app.run()
    found = app.watchdog.blocks
    blocks.write_text(
        json.dumps([str(block) for block in found if "stop_application" not in block.stack])
    )


if __name__ == "__main__":
    main()

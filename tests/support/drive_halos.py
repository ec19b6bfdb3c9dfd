"""The command line, whose supervisors have `fake_stage.py` for every stage."""

import ctypes
import os
import sys
from pathlib import Path

from halos_backend.client import start

from halos_tui.cli.main import main

DRIVER = Path(__file__).with_name("drive_supervisor.py")
DIES = (
    "from pathlib import Path; import sys; Path(sys.argv[2], 'events.jsonl').open('a').write(' ')"
)
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2

guarded_supervisor = start._guarded_supervisor


def fake_supervisor(path: Path) -> list[str]:
    if os.environ.get("TEST_SUPERVISOR_DIES"):
        return [sys.executable, "-c", DIES, "--run-dir", str(path)]
    command = guarded_supervisor(path)
    module = command.index("-m")
    return [*command[:module], str(DRIVER), *command[module + 2 :]]


def become_bound_by_permissions() -> None:
    """Start again without the privilege of root to write what nobody may write."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    if os.environ.pop("TEST_BOUND_BY_PERMISSIONS", ""):
        become_bound_by_permissions()
    start._guarded_supervisor = fake_supervisor
    if limit := os.environ.get("TEST_GONE_LIMIT_S"):
        from halos_tui.headless import follow

        follow.GONE_LIMIT_S = float(limit)
    sys.exit(main())

"""Tells a person of a defect of the program itself: in one message, the traceback goes to a file.

What a person can mend never comes here: that is a HalosError, with its own words.
"""

from __future__ import annotations

import platform
import tempfile
import time
import traceback
from pathlib import Path

from halos_backend import __version__


def tell_defect(error: BaseException) -> str:
    """Returns what to say; it names the file that holds the traceback, if that could be written."""
    text = "".join(traceback.format_exception(error))
    head = f"halos-tui {__version__}, Python {platform.python_version()}\n"
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    said = f"this is a defect of halos-tui ({reason}), and nothing that you did wrong"
    for folder in (_log_folder(), Path(tempfile.gettempdir())):
        path = folder / f"defect-{time.strftime('%Y%m%d-%H%M%S')}-{id(error):x}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(head + text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return f"{said}; please report it with {path}"
    return f"{said}; please report it"


def _log_folder() -> Path:
    import platformdirs  # an environment that only samples need not have it

    return platformdirs.user_log_path("halos-tui")

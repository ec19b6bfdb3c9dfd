"""Our command line on a Textual whose private updates are not those we know.

`other_textual.py names ...` lacks their names, and in `other_textual.py parts ...` they are made of
other parts; the rest is the command line.
"""

from __future__ import annotations

import sys
import types

import textual.app
import textual.screen  # noqa: F401
from textual import _compositor

NAMES = ("ChopsUpdate", "LayoutUpdate")


def hide_names() -> None:
    module = types.ModuleType(_compositor.__name__)
    known = {name: value for name, value in vars(_compositor).items() if name not in NAMES}
    vars(module).update(known)
    sys.modules[_compositor.__name__] = module


def make_of_other_parts(name: str) -> None:
    kind = getattr(_compositor, name)

    class Other(kind):  # type: ignore[misc]
        def __init__(self, *parts: object) -> None:
            super().__init__(*parts)

    setattr(_compositor, name, Other)


if __name__ == "__main__":
    if sys.argv[1] == "names":
        hide_names()
    else:
        for each in NAMES:
            make_of_other_parts(each)
    from halos_tui.cli.main import main

    sys.exit(main(sys.argv[2:]))

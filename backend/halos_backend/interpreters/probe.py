"""Prints what an interpreter has, as one JSON object: `python probe.py NAME...`.

It looks for the distributions named, and for every one whose name begins with `vllm`. It uses the
standard library only: it runs by its path in interpreters that have nothing of ours.
"""

import json
import sys
from collections.abc import Iterable
from importlib import metadata


def main() -> None:
    """Prints what this interpreter has."""
    found = {"python": list(sys.version_info[:3]), "packages": look_for(sys.argv[1:])}
    print(json.dumps(found))  # noqa: T201


def look_for(names: "Iterable[str]") -> "dict[str, str]":
    """Returns versions by distribution; absent ones are left out."""
    packages = {}
    for name in names:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for found in metadata.distributions():
        name = (found.metadata["Name"] or "").lower()
        if name.startswith("vllm"):
            packages[name] = found.version
    return packages


if __name__ == "__main__":
    main()

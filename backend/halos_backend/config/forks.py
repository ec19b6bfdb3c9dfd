"""Makes the settings of a run that begins after a round of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halos_backend.config.changes import forget_defaults
from halos_backend.config.load import parse_settings, resolve
from halos_backend.config.overrides import overridden_keys
from halos_backend.config.schema import RunSettings
from halos_backend.errors import SettingsError

SOURCE = "the fork's settings"


def fork_settings(
    current: Mapping[str, Any], overrides: Sequence[str], *, directory: Path
) -> RunSettings:
    """The resolved settings `current` with `KEY=VALUE` overrides; paths are those of `directory`.

    What is fixed for a run's life may differ in a new one, but for the policy, which the fork takes
    over. Raises SettingsError with everything that is wrong.
    """
    named = overridden_keys(overrides)
    if "policy.path" in named:
        reason = "a fork begins with the checkpoint of its round; for another policy: halos-tui run"
        raise SettingsError(SOURCE, [("policy.path", reason)])
    return resolve(
        parse_settings(
            forget_defaults(current, named),
            source=SOURCE,
            overrides=overrides,
            directory=directory,
        )
    )

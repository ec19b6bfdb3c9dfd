"""Examines what a run file would need and take here, before its inputs are prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halos_backend.config.model_files import measure_policy
from halos_backend.config.schema import RunSettings
from halos_backend.doctor.finding import Finding
from halos_backend.doctor.judge import examine_judge
from halos_backend.doctor.sampler import examine_sampler
from halos_backend.doctor.settings import examine_settings
from halos_backend.errors import UsageError


def examine_run(settings: RunSettings, runs_root: Path) -> list[Finding]:
    """Its settings, what they need where the policy is a directory, and its engines.

    May import vLLM in processes of its own, for seconds.
    """
    choice, sampler = examine_sampler(settings)
    measured, problems = _measure(settings)
    prepared = {**measured, "sampler": choice.engine if choice else None}
    return [
        *problems,
        *examine_settings(settings, prepared=prepared, runs_root=runs_root),
        sampler,
        *examine_judge(settings),
    ]


def _measure(settings: RunSettings) -> tuple[dict[str, Any], list[Finding]]:
    """The policy's sizes as the prepare stage names them; none of one on the hub."""
    try:
        size = measure_policy(settings.policy)
    except UsageError as error:
        text, _, fix = str(error).partition("; ")
        return {}, [Finding("problem", "policy", text, fix)]
    return ({} if size is None else size._asdict()), []

"""Examines what a run would sample with; may import vLLM in a process of its own, for seconds."""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.doctor.finding import Finding
from halos_backend.errors import HalosError
from halos_backend.interpreters.choice import EngineChoice
from halos_backend.interpreters.sampler import check_sampler


def examine_sampler(settings: RunSettings) -> tuple[EngineChoice | None, Finding]:
    """The engine, and why it is taken; or None, and why none can be."""
    try:
        choice = check_sampler(settings)
    except HalosError as error:
        text, _, fix = str(error).partition("; ")
        return None, Finding("problem", "sampler", text, fix)
    where = f" in {settings.sample.python}" if settings.sample.python else ""
    name = f"{choice.engine} {choice.version}".strip()
    return choice, Finding("ok", "sampler", f"{name}{where}: {choice.reason}")

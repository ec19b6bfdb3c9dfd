"""Examines what a reward model would be scored with; may import vLLM in a process of its own, for
seconds.
"""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.doctor.finding import Finding
from halos_backend.errors import HalosError
from halos_backend.interpreters.choice import EngineChoice
from halos_backend.interpreters.judge import check_judge_engine


def examine_judge(settings: RunSettings) -> list[Finding]:
    """Nothing where vLLM is not asked for."""
    try:
        choice = check_judge_engine(settings)
    except HalosError as error:
        text, _, fix = str(error).partition("; ")
        return [Finding("problem", "judge", text, fix)]
    if choice is None:
        return []
    if choice.engine == "transformers":
        return [judge_without_vllm(choice)]
    where = f" in {settings.label.python}" if settings.label.python else ""
    text = f"{choice.engine} {choice.version}{where}, if it gives the rewards of transformers"
    return [Finding("ok", "judge", text)]


def judge_without_vllm(choice: EngineChoice) -> Finding:
    """That transformers takes vLLM's place."""
    obstacle, _, fix = choice.reason.partition("; ")
    return Finding(
        "warning",
        "judge",
        f"the reward model will be scored with transformers: {obstacle}",
        fix or "set label.judge.engine = 'transformers'",
    )

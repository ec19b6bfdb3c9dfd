"""Run directories written event by event, as a supervisor and its stages would leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    STAGES,
    Event,
    ProcessIdentity,
    RoundFinished,
    RoundStarted,
    RunCompleted,
    RunCreated,
    Stage,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
)
from halos_backend.records import (
    Completion,
    Group,
    PreferencePair,
    Prompt,
    UnpairedFeedback,
    write_rows,
)
from halos_backend.store.identity import own_identity
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.writer import EventWriter

GONE = ProcessIdentity(pid=4_000_000, start_time=1.0, boot_id="an earlier boot", host="elsewhere")
STARTED_T = 1_800_000_000.0

SUMMARIES: dict[Stage, dict[str, Any]] = {
    "sample": {
        "num_prompts": 2,
        "num_completions": 4,
        "num_tokens": 20,
        "tokens_per_s": 40.0,
        "length_mean": 5.0,
        "truncated_frac": 0.25,
        "elapsed_s": 0.5,
    },
    "label": {
        "num_completions": 4,
        "num_unscored": 0,
        "unscored_reasons": {},
        "num_feedback": 2,
        "num_pairs_kept": 2,
        "reward_mean": 0.5,
        "reward_std": 0.1,
        "reward_histogram": {"edges": [0, 1], "counts": [4]},
        "elapsed_s": 0.5,
    },
    "train": {
        "num_steps": 1,
        "loss_first": 0.6931,
        "loss_last": 0.5,
        "kl_initial": 0.0125,
        "elapsed_s": 0.5,
    },
}


def settings(*, loss: str = "dpo", feedback: str = "pairwise", num_rounds: int = 2) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"path": "/models/policy"},
            "prompts": {"path": "/data/prompts.jsonl"},
            "loop": {"num_rounds": num_rounds, "prompts_per_round": 2},
            "sample": {"group_size": 2},
            "label": {
                "judge": {"kind": "function", "function": "judge.py:reward"},
                "feedback": {"kind": feedback},
            },
            "train": {"loss": {"kind": loss}},
            "launch": {"num_threads": 1},
        }
    )


class MadeRun:
    """One run directory; every method appends what it says."""

    def __init__(
        self, root: Path, name: str = "a-run", *, num_prompts: int = 4, **changes: Any
    ) -> None:
        self.dir = RunDir(root / name)
        self.dir.path.mkdir(parents=True)
        self.settings = settings(**changes).model_dump(mode="json")
        self._t = STARTED_T
        self.say(
            RunCreated(
                t=self._t,
                schema_version=1,
                run=name,
                version="0.1.0",
                settings=self.settings,
                num_prompts=num_prompts,
                num_too_long=0,
                prompts_sha256="p",
                policy_sha256="q",
                checkpoint_bytes=10,
            ),
            SupervisorStarted(t=self._t, generation=1, process=GONE, version="0.1.0"),
        )

    def say(self, *events: Event) -> None:
        """Append to the run's journal."""
        with EventWriter(self.dir.events) as writer:
            for event in events:
                writer.append(event)

    def supervised(self) -> None:
        """From here on this very process passes for the supervisor."""
        self.dir.lock.write_bytes(msgspec.json.encode(own_identity()))

    def unsupervised(self) -> None:
        self.dir.lock.unlink()

    def start_round(self, round: int) -> None:
        self.say(
            RoundStarted(
                t=self._later(),
                round=round,
                cursor=2 * (round - 1),
                num_prompts=2,
                settings=self.settings,
            )
        )

    def start_stage(
        self, round: int, stage: Stage, attempt: int = 1, *, is_warm: bool = False
    ) -> AttemptDir:
        made = self.dir.attempt(round, stage, attempt)
        made.path.mkdir(parents=True)
        about = {"round": round, "stage": stage, "attempt": attempt}
        self.say(
            StageStarted(t=self._later(), process=GONE, command=["true"], is_warm=is_warm, **about)
        )
        return made

    def finish_stage(self, round: int, stage: Stage, attempt: int = 1, **changes: Any) -> None:
        about = {"round": round, "stage": stage, "attempt": attempt}
        summary = {**SUMMARIES[stage], **changes}
        self.say(StageFinished(t=self._later(), elapsed_s=1.5, summary=summary, **about))

    def fail_stage(self, round: int, stage: Stage, reason: str, attempt: int = 1) -> None:
        about = {"round": round, "stage": stage, "attempt": attempt}
        self.say(StageFailed(t=self._later(), reason=reason, exit_code=1, last_lines=[], **about))

    def finish_round(self, round: int, *, untrained: str | None = None, **metrics: Any) -> None:
        path = None if untrained else f"rounds/{round:04d}/train/attempt_1/checkpoint"
        self.say(
            RoundFinished(
                t=self._later(),
                round=round,
                checkpoint=path,
                metrics=metrics,
                untrained=untrained,
            )
        )

    def whole_round(self, round: int, **label: Any) -> None:
        """A round without trouble; `label` changes that stage's summary."""
        self.start_round(round)
        for stage in STAGES:
            self.start_stage(round, stage)
            self.finish_stage(round, stage, **(label if stage == "label" else {}))
        self.finish_round(round, reward_mean=label.get("reward_mean", 0.5))

    def score_result(
        self, *, reward_mean: float = 0.75, unscored: str | None = None, round: int = 3
    ) -> None:
        """The closing round after the last one, on held-out prompts."""
        self.say(
            RoundStarted(
                t=self._later(),
                round=round,
                cursor=0,
                num_prompts=2,
                settings=self.settings,
                closing="held_out",
            )
        )
        for stage in STAGES[:2]:
            self.start_stage(round, stage)
            if unscored is None or stage == "sample":
                changes = {"reward_mean": reward_mean, "reward_stderr": 0.02}
                self.finish_stage(round, stage, **(changes if stage == "label" else {}))
            else:
                self.fail_stage(round, stage, unscored)
        self.say(
            RoundFinished(
                t=self._later(), round=round, checkpoint=None, metrics={}, unscored=unscored
            )
        )

    def complete(self) -> None:
        self.say(RunCompleted(t=self._later(), reason="all rounds are done"))

    def _later(self) -> float:
        self._t += 1.0
        return self._t


PROMPTS = (
    Prompt("alpha", ({"role": "user", "content": "What is 1 + 1?"},), (1, 2)),
    Prompt(
        "beta",
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say hello."},
        ),
        (3, 4),
    ),
)


def completion(number: int, text: str, reward: float | None, **changes: Any) -> Completion:
    ids = tuple(range(len(text.split())))
    return Completion(
        f"c{number}", text, ids, **{"finish_reason": "stop", **changes}, reward=reward
    )


GROUPS = (
    Group(
        "beta",
        PROMPTS[1].prompt,
        PROMPTS[1].token_ids,
        0,
        (completion(0, "hello", 0.25), completion(1, "hello there you", 0.75)),
    ),
    Group(
        "alpha",
        PROMPTS[0].prompt,
        PROMPTS[0].token_ids,
        0,
        (
            completion(0, "two", 1.0),
            completion(
                1, "three or so", None, unscored="the judge said no", finish_reason="length"
            ),
        ),
    ),
)


def write_prompts(run: MadeRun) -> None:
    write_rows(run.dir.prompts, PROMPTS)


def write_round_files(run: MadeRun, round: int, feedback: str = "pairwise") -> None:
    """Completions, scores and feedback of a round that is sampled and labelled."""
    unscored = [
        msgspec.structs.replace(
            group,
            completions=tuple(
                msgspec.structs.replace(c, reward=None, unscored=None) for c in group.completions
            ),
        )
        for group in GROUPS
    ]
    write_rows(run.dir.attempt(round, "sample", 1).completions, unscored)
    label = run.dir.attempt(round, "label", 1)
    write_rows(label.scores, GROUPS)
    write_rows(label.feedback, list(feedback_rows(feedback)))


def feedback_rows(kind: str) -> list[Any]:
    beta, alpha = GROUPS
    about = (beta.prompt_id, beta.prompt, beta.prompt_token_ids)
    match kind:
        case "pairwise":
            low, high = beta.completions
            return [PreferencePair(*about, high, low, 0.75, 0.25)]
        case "binary":
            return [
                UnpairedFeedback(*about, beta.completions[0], False, 0.25),
                UnpairedFeedback(*about, beta.completions[1], True, 0.75),
            ]
        case _:
            return [beta, msgspec.structs.replace(alpha, completions=alpha.completions[:1])]

"""Checks a run's inputs: every check is made, and all that they find is written down.

A check is a function that returns what it measured, or raises UsageError with what is wrong and the
fix. One more check is one more line of Inspection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from halos_backend import atomic
from halos_backend.config.changes import REFERENCE_WORDS
from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import UsageError
from halos_backend.findings import Finding, Prepared, problem_of
from halos_backend.interpreters.engine_choice import EngineChoice, check_judge_engine, check_sampler
from halos_backend.stages.models import load_config, load_tokenizer
from halos_backend.stages.prepare.input_notes import model_files, note_inputs, policy_digest
from halos_backend.stages.prepare.model_checks import (
    CheckedJudge,
    CheckedPolicy,
    check_ends,
    check_judge,
    check_policy,
    check_stop_tokens,
    check_training,
    check_transformers_engine,
    find_adapter,
    longest_prompt,
    weight_files,
)
from halos_backend.stages.prepare.prompts import (
    Counts,
    check_frozen,
    find_non_finite,
    freeze,
    freeze_held_out,
    read_prompts,
)
from halos_backend.stages.train.kernels import check_kernels
from halos_backend.store.run_dir import RunDir

P = ParamSpec("P")
T = TypeVar("T")


def prepare(run_dir: RunDir, *, has_prompts: bool = False) -> Prepared:
    """Writes `prepared.json`, and `prompts.jsonl` where the prompts are right; returns the former.

    Its `findings` say what is wrong; what could not be measured then is not in it. `has_prompts`:
    the prompts are there, frozen for the run that this one is forked from.
    """
    settings = RunSettings.model_validate_json(run_dir.resolved_config.read_bytes())
    inspection = Inspection(run_dir, settings)
    inspection.judge()
    inspection.sampler()
    inspection.policy()
    inspection.reference()
    inspection.prompts(has_prompts=has_prompts)
    inspection.held_out(is_fork=has_prompts)
    inspection.digests()
    found = msgspec.json.format(msgspec.json.encode(inspection.found.as_json()))
    atomic.write_bytes(run_dir.prepared, found + b"\n")
    return inspection.found


@dataclass
class Inspection:
    """Makes all checks of a run's inputs; a later one uses what an earlier one measured,
    if it did.
    """

    run_dir: RunDir
    settings: RunSettings
    found: Prepared = field(default_factory=Prepared)
    _judge: CheckedJudge | None = None
    _config: PretrainedConfig | None = None
    _policy: CheckedPolicy | None = None
    _reference: tuple[Path, ...] = ()
    _tokenizer: PreTrainedTokenizerBase | None = None
    _max_tokens: int | None = None

    def judge(self) -> None:
        """Checks whether the judge can score, and with what."""
        judge = self.settings.label.judge
        if isinstance(judge, RewardModelJudge):
            self._name_adapter("label.judge.path", judge.path)
        self._judge = self._check("judge", check_judge, self.settings, self.run_dir)
        if self._judge is not None:
            self.found.findings.append(Finding("ok", "judge", self._judge.about))
            self.found.judge_parameters = self._judge.num_parameters
        engine = self._check("judge", check_judge_engine, self.settings)
        self.found.judge_engine = msgspec.to_builtins(engine)
        if engine is not None:
            self.found.findings.append(_judge_engine_finding(engine, self.settings))

    def sampler(self) -> None:
        """Checks what samples."""
        if (engine := self._check("sampler", check_sampler, self.settings)) is not None:
            self.found.findings.append(_sampler_finding(engine, self.settings))
            self.found.sampler = engine.engine

    def policy(self) -> None:
        """Checks the policy, its configuration first: without that nothing else of it can
        be said.
        """
        settings, policy = self.settings, self.settings.policy
        config = self._check(
            "policy", load_config, policy.path, trust_remote_code=policy.trust_remote_code
        )
        if config is None:
            return
        self._config = config
        self._name_adapter("policy.path", policy.path)
        self._check("kernels", check_kernels, settings, policy.path)
        self._policy = self._check("policy", check_policy, settings, config)
        if self._policy is not None:
            self.found.findings.append(_policy_finding(self._policy))
            self.found.context_length = self._policy.context_length
            self.found.num_parameters = self._policy.num_parameters
            self.found.checkpoint_bytes = self._policy.checkpoint_bytes
            self.found.policy_dtype = self._policy.dtype
            self._check("policy", check_training, settings)
            if self.found.sampler == "transformers":
                self._check("sampler", check_transformers_engine, policy, self._policy.outline)
        self._tokenizer = self._check("policy", load_tokenizer, policy.path, policy)
        if self._tokenizer is not None:
            self._check("policy", check_stop_tokens, settings, len(self._tokenizer))
            self._check("policy", check_ends, policy, config, self._tokenizer)
            self._max_tokens = self._check(
                "lengths", longest_prompt, settings, config, self._tokenizer
            )

    def reference(self) -> None:
        """Checks a reference that is neither the initial policy nor the one of the round before."""
        path, policy = self.settings.train.reference, self.settings.policy
        if path in REFERENCE_WORDS:
            return
        weights = self._check("reference", weight_files, path, setting="train.reference")
        if weights is not None:
            self._reference = model_files(weights, has_code=policy.trust_remote_code)

    def prompts(self, *, has_prompts: bool) -> None:
        """Checks prompts: reads them as they are; renders, measures and freezes them where the
        policy can say how.
        """
        settings, tokenizer, max_tokens = self.settings, self._tokenizer, self._max_tokens
        sources = None
        if not has_prompts:
            sources = self._check("prompts", read_prompts, settings.prompts)
            self.found.findings += find_non_finite(sources or ())
        config = self._config
        if tokenizer is None or max_tokens is None or config is None:
            return
        counts = None
        if has_prompts:
            counts = self._check("prompts", check_frozen, self.run_dir, settings, max_tokens)
        elif sources is not None:
            counts = self._check(
                "prompts",
                freeze,
                self.run_dir.prompts,
                settings,
                sources,
                tokenizer,
                max_tokens,
                config,
            )
        if counts is not None:
            self.found.findings.append(_prompts_finding(counts, max_tokens))
            self.found.num_prompts = counts.num_prompts
            self.found.num_too_long = counts.num_too_long

    def held_out(self, *, is_fork: bool) -> None:
        """Checks the prompts that the result is scored on, where any are named."""
        self.found.num_held_out = 0
        if self.settings.prompts.held_out is None:
            return
        tokenizer, max_tokens, config = self._tokenizer, self._max_tokens, self._config
        if tokenizer is None or max_tokens is None or config is None:
            return
        found = self._check(
            "held out",
            freeze_held_out,
            self.run_dir,
            self.settings,
            tokenizer,
            max_tokens,
            config,
            is_fork=is_fork,
        )
        if found is not None:
            self.found.num_held_out = found
            self.found.findings.append(
                Finding("ok", "held out", f"the result is scored on {found:,} prompts")
            )

    def digests(self) -> None:
        """Digests all files that the run depends on, once they are right."""
        if self._policy is None or any(
            finding.level == "problem" for finding in self.found.findings
        ):
            return
        policy = self.settings.policy
        inputs = note_inputs(
            self.run_dir,
            self.settings,
            policy=model_files(self._policy.weights, has_code=policy.trust_remote_code),
            judge=self._judge.files if self._judge is not None else (),
            reference=self._reference,
        )
        self.found.prompts_sha256 = inputs[0].sha256
        self.found.policy_sha256 = policy_digest(inputs)
        self.found.inputs = inputs

    def _name_adapter(self, setting: str, path: str) -> None:
        if (found := find_adapter(setting, path)) is not None:
            self.found.findings.append(found)

    def _check(
        self, subject: str, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Returns what `check` returns; None where it raised, which is a problem then."""
        try:
            return check(*args, **kwargs)
        except UsageError as error:
            self.found.findings.append(problem_of(subject, error))
        except OSError as error:
            if error.filename is None or self._is_ours(error):
                raise
            text = f"{error.filename} cannot be read: {error.strerror}"
            self.found.findings.append(Finding("problem", subject, text, "see who may read it"))
        return None

    def _is_ours(self, error: OSError) -> bool:
        """Says whether the error is about what the check writes, and not about what it reads."""
        return Path(os.fsdecode(error.filename)).is_relative_to(self.run_dir.path)


def _policy_finding(policy: CheckedPolicy) -> Finding:
    return Finding(
        "ok",
        "policy",
        f"{policy.architecture}: {policy.num_parameters:,} parameters, {policy.dtype},"
        f" {policy.context_length:,} tokens of context",
    )


def _prompts_finding(counts: Counts, max_tokens: int) -> Finding:
    left_out = (
        f"; {counts.num_too_long:,} of more than {max_tokens:,} tokens are left out"
        if counts.num_too_long
        else ""
    )
    return Finding("ok", "prompts", f"{counts.num_prompts:,} can be sampled from{left_out}")


def _sampler_finding(choice: EngineChoice, settings: RunSettings) -> Finding:
    where = f" in {settings.sample.python}" if settings.sample.python else ""
    name = f"{choice.engine} {choice.version}".strip()
    return Finding("ok", "sampler", f"{name}{where}: {choice.why}")


def _judge_engine_finding(choice: EngineChoice, settings: RunSettings) -> Finding:
    """Warns where transformers takes vLLM's place."""
    if choice.engine == "transformers":
        return Finding(
            "warning",
            "judge",
            f"the reward model will be scored with transformers: {choice.reason}",
            choice.fix or "set label.judge.engine = 'transformers'",
        )
    where = f" in {settings.label.python}" if settings.label.python else ""
    text = f"{choice.engine} {choice.version}{where}, if it gives the rewards of transformers"
    return Finding("ok", "judge", text)

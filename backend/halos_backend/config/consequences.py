"""Words what follows from a change of settings during a run: one small pure rule for each matter.

People read the sentences before they confirm a change, and later in the run's history. Two of the
rules have other readers too: whether rewards of two rounds can be compared (by what settings of a
judge they depend on), and whether AdamW's moments go from one trained round to the next. The
supervisor tells the latter to the train stage. Weights are always carried;
`stages.train.trainer_state` decides what stays on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from halos_backend.config.api_judge import DECIDING
from halos_backend.config.losses import LOSSES_WITH_REFERENCE
from halos_backend.config.schema import LoRA, RunSettings, TrainSettings

LAST_DIGITS = frozenset({"engine", "vllm"})
"""Names the settings that change rewards by no more than rounding does."""

AdapterKey = dict[str, float | str | list[str]]


def find_consequences(before: RunSettings, now: RunSettings) -> tuple[str, ...]:
    """Returns all that a person should know of the change, as whole sentences."""
    return tuple(sentence for rule in RULES for sentence in rule(before, now))


def _moments(before: RunSettings, now: RunSettings) -> Iterator[str]:
    reason = reset_reason(before.train, now.train)
    if reason is None:
        if before.train.loss.kind != now.train.loss.kind:
            yield (
                "AdamW's moments are carried over the change of the loss:"
                " train.keep_optimizer = true"
            )
    elif before.train.keep_optimizer is False and now.train.keep_optimizer is False:
        return
    elif now.train.keep_optimizer is False:
        yield "every round starts AdamW's moments anew: train.keep_optimizer = false"
    else:
        yield f"AdamW's moments start anew, the weights go on: {reason}{_remedy(before, now)}"


def _loss_values(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = before.train.loss, now.train.loss
    if old.kind != new.kind:
        yield f"values of the {new.kind} loss cannot be compared with those of {old.kind} before"
    elif old != new:
        yield "values of the loss cannot be compared with those of earlier rounds"


def _implicit_rewards(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = _strength(before), _strength(now)
    if before.train.loss.kind == now.train.loss.kind and old and new and old != new:
        yield f"implicit rewards are of another scale: {_times(new / old)} that before"


def _reference(before: RunSettings, now: RunSettings) -> Iterator[str]:
    has_reference = {before.train.loss.kind, now.train.loss.kind} & LOSSES_WITH_REFERENCE
    if has_reference and before.train.reference != now.train.reference:
        yield (
            f"the reference is '{now.train.reference}' instead of '{before.train.reference}':"
            " implicit rewards and the KL to the reference cannot be compared with those of earlier"
            " rounds (kl_initial can)"
        )


def _schedule(before: RunSettings, now: RunSettings) -> Iterator[str]:
    new = now.train
    is_flat = new.schedule == "constant" and new.warmup_frac == 0
    if _shape(before) != _shape(now):
        yield "the learning rate follows the new schedule from there on, and may jump"
    elif new.schedule_scope == "run" and not is_flat and _length(before) != _length(now):
        yield (
            "the learning rate's schedule spans the run (train.schedule_scope = 'run'): it is"
            " stretched or shortened to the run's new length, and the rate may jump"
        )


def _learning_rate(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = before.train.lr, now.train.lr
    if old != new:
        yield f"the peak learning rate is {_times(new / old)} that before"


def _sampling_cost(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = _most_tokens(before), _most_tokens(now)
    if old != new:
        yield (
            f"a round samples at most {_times(new / old)} as many tokens"
            f" ({new:,} instead of {old:,})"
        )


def _training_cost(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = before.train.num_epochs, now.train.num_epochs
    if old != new:
        yield f"a round goes through its feedback {_often(new)} instead of {_often(old)}"


def _round_size(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = before.loop.prompts_per_round, now.loop.prompts_per_round
    if old != new:
        size = "fewer" if new < old else "more"
        yield f"a round takes {size} prompts: {new:,} instead of {old:,}"


def _rewards(before: RunSettings, now: RunSettings) -> Iterator[str]:
    if judging(_judge(before)) != judging(_judge(now)):
        yield (
            "rewards come of another judge: they cannot be compared with those of earlier rounds,"
            " and loop.keep_best counts from there on"
            if now.loop.keep_best
            else "rewards come of another judge: they cannot be compared with those of earlier"
            " rounds"
        )
    if _making_feedback(before) != _making_feedback(now):
        yield (
            "feedback is made otherwise: how much of it there is, its margins and implicit rewards"
            " cannot be compared with earlier rounds"
        )


def _making_feedback(settings: RunSettings) -> tuple[Any, ...]:
    label = settings.label
    overlong = label.overlong_tokens and (
        settings.sample.max_new_tokens - label.overlong_tokens,
        label.overlong_penalty,
    )
    return label.feedback, label.cut_off, label.cut_off_penalty, overlong


def _samples(before: RunSettings, now: RunSettings) -> Iterator[str]:
    if _drawing(before) != _drawing(now):
        yield (
            "completions are drawn otherwise, so that their rewards and lengths say something else"
            " than in earlier rounds, of the same policy too"
        )


def _checkpoints(before: RunSettings, now: RunSettings) -> Iterator[str]:
    fewer = before.loop.keep_checkpoints - now.loop.keep_checkpoints
    if fewer > 0:
        noun = "checkpoint" if fewer == 1 else "checkpoints"
        yield f"the next round's end deletes up to {fewer} {noun} more"
    if before.loop.keep_best and not now.loop.keep_best:
        yield "the checkpoint with the best mean reward is deleted once it is not among the newest"


def _digits(before: RunSettings, now: RunSettings) -> Iterator[str]:
    if _arithmetic(before) != _arithmetic(now):
        yield "results differ in their last digits: sums are taken in another order"


RULES: tuple[Callable[[RunSettings, RunSettings], Iterator[str]], ...] = (
    _moments,
    _loss_values,
    _implicit_rewards,
    _reference,
    _learning_rate,
    _schedule,
    _sampling_cost,
    _round_size,
    _training_cost,
    _rewards,
    _samples,
    _checkpoints,
    _digits,
)


def _remedy(before: RunSettings, now: RunSettings) -> str:
    """Says what `train.keep_optimizer = true` could do, or did not, about moments that
    start anew.
    """
    if now.train.keep_optimizer:
        return " (which train.keep_optimizer = true cannot help)"
    kept = now.train.model_copy(update={"keep_optimizer": True})
    if reset_reason(before.train, kept) is None:
        return " (train.keep_optimizer = true would carry them)"
    return ""


def _strength(settings: RunSettings) -> float | None:
    """Returns the factor of implicit rewards; None for a loss without them."""
    loss = settings.train.loss
    if loss.kind == "grpo":
        return None
    strength: float | None = getattr(loss, "tau" if loss.kind == "ipo" else "beta", None)
    return strength


def _shape(settings: RunSettings) -> tuple[str, str, float]:
    train = settings.train
    return train.schedule, train.schedule_scope, train.warmup_frac


def _length(settings: RunSettings) -> tuple[int | None, ...]:
    loop = settings.loop
    return loop.num_rounds, loop.num_prompts, loop.num_epochs, loop.prompts_per_round


def _most_tokens(settings: RunSettings) -> int:
    sample = settings.sample
    return settings.loop.prompts_per_round * sample.group_size * sample.max_new_tokens


def _drawing(settings: RunSettings) -> tuple[object, ...]:
    sample = settings.sample
    return (
        sample.temperature,
        sample.temperatures,
        sample.top_k,
        sample.min_p,
        sample.top_p,
        sample.repetition_penalty,
        sample.min_new_tokens,
        sample.max_new_tokens,
        sample.stop,
        sample.stop_token_ids,
    )


def _arithmetic(settings: RunSettings) -> tuple[object, ...]:
    launch = settings.launch
    return (
        launch.num_processes,
        launch.sharding,
        launch.num_threads,
        launch.device,
        settings.sample.batch_size,
        settings.sample.engine,
        settings.sample.python,
        settings.label.python,
        *(_judge(settings).get(name) for name in sorted(LAST_DIGITS)),
        settings.train.microbatch_tokens,
        settings.train.kernels,
    )


def _judge(settings: RunSettings) -> dict[str, Any]:
    return settings.label.judge.model_dump()


def _times(factor: float) -> str:
    """Returns a factor in words: `2 times`, `0.25 times`."""
    return f"{factor:.3g} times"


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def judging(judge: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a judge as plain JSON, without those that only change last digits, or
    how an API is called.
    """
    if judge["kind"] == "api":
        return {name: judge.get(name) for name in ("kind", *DECIDING)}
    return {name: value for name, value in judge.items() if name not in LAST_DIGITS}


def reset_reason(before: TrainSettings, now: TrainSettings) -> str | None:
    """Says why a round with settings `now` starts the moments anew after one with `before`; None:
    it keeps them.

    `train.keep_optimizer = true` overrules a changed loss, not changed parameters: the moments of
    others would mean nothing.
    """
    if now.keep_optimizer is False:
        return "train.keep_optimizer = false"
    if before.keep_optimizer is False:
        return "the round before did not save AdamW's moments (its train.keep_optimizer was false)"
    reasons = [] if now.keep_optimizer else _changed_loss(before, now)
    reasons += _other_parameters(before, now)
    return " and ".join(reasons) or None


def adapter_key(lora: LoRA | None) -> AdapterKey | None:
    """Returns what must be equal for the adapters of two rounds to be the same; None without
    adapters.
    """
    if lora is None:
        return None
    targets = lora.target_modules
    return {
        "r": lora.r,
        "alpha": lora.alpha,
        "target_modules": targets if isinstance(targets, str) else list(targets),
    }


def _changed_loss(before: TrainSettings, now: TrainSettings) -> list[str]:
    old, new = before.loss.kind, now.loss.kind
    return [] if old == new else [f"the loss changed from {old} to {new}"]


def _other_parameters(before: TrainSettings, now: TrainSettings) -> list[str]:
    reasons = []
    if adapter_key(before.lora) != adapter_key(now.lora):
        reasons.append("the trainable parameters (train.lora) changed")
    if before.optimizer != now.optimizer:
        reasons.append(f"the optimizer changed from {before.optimizer} to {now.optimizer}")
    return reasons

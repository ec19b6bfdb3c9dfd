"""Decides whether AdamW's moments go from one trained round to the next.

The supervisor tells the train stage, the tweak form tells the person before a change. Weights are
carried in any case; what a stage keeps on disk is `stages.train.trainer_state`'s.
"""

from __future__ import annotations

from halos_backend.config.schema import LoRA, TrainSettings

AdapterKey = dict[str, float | str | list[str]]


def reset_reason(before: TrainSettings, now: TrainSettings) -> str | None:
    """Why a round with settings `now` starts the moments anew after one with `before`; None: kept.

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
    """What must be equal for the adapters of two rounds to be the same; None without adapters."""
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

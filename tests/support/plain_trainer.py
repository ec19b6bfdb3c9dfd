"""A trainer of its own: plain torch in float64, HALOs' formulas, none of this project's code.

Written from ContextualAI/HALOs at commit 4831988 (train/trainers.py): the losses of DPO, KTO and
GRPO with humanline's clamp, and a reference that takes the policy's weights after the backward pass
and before the optimizer's step. GRPO's advantages have TRL's 1e-4 instead of HALOs' 1e-2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

Ids = tuple[int, ...]
Text = tuple[Ids, Ids]
"""Prompt and completion."""
Ratios = Callable[[Text], Tensor]
"""Unclamped log-ratios of policy over reference, of each token of the completion."""
Outcome = tuple[Tensor, float]
"""The loss, and the margin of the implicit rewards (GRPO has none)."""


class PlainTrainer:
    def __init__(
        self, path: Path, *, lr: float, clamp: tuple[float, float], sync_every: int, beta: float
    ) -> None:
        self.policy = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
        self.reference = copy.deepcopy(self.policy)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=lr, weight_decay=0.0)
        self.clamp, self.sync_every, self.beta = clamp, sync_every, beta
        self.num_steps = 0
        self._inside: list[Tensor] = []

    def step(self, outcome_of: Callable[[PlainTrainer], Outcome]) -> tuple[float, float, float]:
        """The loss, the margin, and the share of tokens that the clamp leaves alone."""
        self._inside.clear()
        loss, margin = outcome_of(self)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.num_steps += 1
        if self.num_steps % self.sync_every == 0:
            self.reference.load_state_dict(self.policy.state_dict())
        self.optimizer.step()
        return loss.item(), margin, torch.cat(self._inside).double().mean().item()

    def ratios(self, text: Text) -> Tensor:
        with torch.no_grad():
            reference = logps(self.reference, text)
        ratios = logps(self.policy, text) - reference
        if torch.is_grad_enabled():  # not where KTO's reference point is estimated
            self._inside.append((self.clamp[0] < ratios) & (ratios < self.clamp[1]))
        return ratios

    def reward(self, text: Text) -> Tensor:
        return self.beta * self.ratios(text).clamp(*self.clamp).sum()


def logps(model: torch.nn.Module, text: Text) -> Tensor:
    prompt, completion = text
    logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
    rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return rows.gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1)


def dpo(pairs: Sequence[tuple[Text, Text]]) -> Callable[[PlainTrainer], Outcome]:
    def outcome(trainer: PlainTrainer) -> Outcome:
        margins = torch.stack([trainer.reward(a) - trainer.reward(b) for a, b in pairs])
        return -F.logsigmoid(margins).mean(), margins.mean().item()

    return outcome


def kto(
    good: Sequence[Text], bad: Sequence[Text], mismatched: Sequence[Text]
) -> Callable[[PlainTrainer], Outcome]:
    def outcome(trainer: PlainTrainer) -> Outcome:
        with torch.no_grad():
            kl = torch.stack([trainer.reward(text) for text in mismatched]).mean().clamp(min=0)
        chosen = torch.stack([trainer.reward(text) for text in good])
        rejected = torch.stack([trainer.reward(text) for text in bad])
        losses = torch.cat([1 - F.sigmoid(chosen - kl), 1 - F.sigmoid(kl - rejected)])
        return losses.mean(), (chosen.mean() - rejected.mean()).item()

    return outcome


def grpo(
    groups: Sequence[Sequence[tuple[Text, float]]], epsilon: float
) -> Callable[[PlainTrainer], Outcome]:
    def outcome(trainer: PlainTrainer) -> Outcome:
        losses = []
        for group in groups:
            rewards = torch.tensor([reward for _, reward in group], dtype=torch.float64)
            advantages = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)
            for (text, _), advantage in zip(group, advantages, strict=True):
                ratios = trainer.ratios(text)
                ratio = ratios.clamp(*trainer.clamp).exp()
                clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
                kl = (-ratios).exp() + ratios - 1
                gain = torch.min(advantage * ratio, advantage * clipped)
                losses.append(trainer.beta * kl - gain)
        return torch.cat(losses).mean(), 0.0

    return outcome

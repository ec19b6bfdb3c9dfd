"""Says how the tiny models are made: every number that the result depends on, and a
digest of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

VERSION = 1
"""Is raised when the task, the tokenizer or the making changes in a way the numbers do not show."""


@dataclass(frozen=True)
class Recipe:
    """Holds the sizes of the models and of their training. The policy is left with room
    to improve.
    """

    hidden_size: int = 96
    intermediate_size: int = 256
    num_layers: int = 3
    num_heads: int = 4
    policy_steps: int = 150
    careless_frac: float = 0.45
    policy_lr: float = 2e-3
    reward_model_steps: int = 400
    reward_model_lr: float = 1.5e-3
    batch_size: int = 64
    num_prompts: int = 2000
    num_held_out: int = 200
    seed: int = 20

    @property
    def digest(self) -> str:
        """Returns twelve hexadecimal digits that name the result."""
        text = repr((VERSION, sorted(asdict(self).items())))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class EmbeddedFiles:
    """Says where the models and prompts of one recipe lie."""

    path: Path

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def reward_model(self) -> Path:
        return self.path / "reward_model"

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.jsonl"

    @property
    def held_out(self) -> Path:
        return self.path / "held_out.jsonl"

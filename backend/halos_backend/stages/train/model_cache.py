"""Holds what a trainer that stays has between rounds: policy, AdamW's moments, and the reference.

All of it is also on disk, in the checkpoint and the trainer's state; what is in memory is the same,
bit for bit, and is used only where a round asks for just those files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from halos_backend.config.schema import RunSettings
from halos_backend.stages.models import load_policy
from halos_backend.stages.train.optimizer import Moments
from halos_backend.stages.train.trainee import Trainee
from halos_backend.store.job import TrainInputs
from halos_backend.store.run_dir import AttemptDir


@dataclass(frozen=True)
class _Trained:
    """Is the policy as a round left it in `checkpoint` and `trainer_state`."""

    checkpoint: str
    trainer_state: str
    settings: tuple[Any, ...]
    trainee: Trainee
    moments: Moments


@dataclass(frozen=True)
class _Reference:
    path: str
    settings: tuple[Any, ...]
    model: PreTrainedModel


class ModelCache:
    """Holds at most one policy under training and one reference model."""

    def __init__(self) -> None:
        self._trained: _Trained | None = None
        self._reference: _Reference | None = None

    def trainee(
        self, inputs: TrainInputs, settings: RunSettings, device: torch.device
    ) -> tuple[Trainee, Moments] | None:
        """Returns the policy that a round begins with and its moments, if they are the ones held.

        They are handed out once: a round that fails leaves nothing to go on with.
        """
        trained, self._trained = self._trained, None
        if trained is None or (trained.checkpoint, trained.trainer_state, trained.settings) != (
            inputs.model,
            inputs.trainer_state,
            _shape(settings),
        ):
            return None
        trained.trainee.model.to(device)
        return trained.trainee, trained.moments

    def keep(
        self, directory: AttemptDir, settings: RunSettings, trainee: Trainee, moments: Moments
    ) -> None:
        """Keeps what the round has just written into the attempt's directory.

        Adapters are merged into their checkpoint, and are loaded anew. Moments that are not to be
        carried are not kept.
        """
        if trainee.wrapper is None:
            equals_file = trainee.dtype == torch.float32
            self._trained = _Trained(
                str(directory.checkpoint),
                str(directory.trainer_state),
                _shape(settings),
                replace(trainee, equals_file=equals_file, keeps_base=False),
                moments if settings.train.keep_optimizer is not False else {},
            )

    def reference_model(
        self, path: str, settings: RunSettings, device: torch.device
    ) -> PreTrainedModel:
        """Returns the fp32 model at `path`, loaded only if it is not the one that is held."""
        policy = (settings.policy,)
        if self._reference is None or (self._reference.path, self._reference.settings) != (
            path,
            policy,
        ):
            self._reference = None  # freed before the next one is loaded
            model = load_policy(path, settings.policy, dtype=torch.float32)
            self._reference = _Reference(path, policy, model)
        return self._reference.model.to(device)

    def rest(self) -> None:
        """Gives the reference model's GPU memory back until it is asked for."""
        if self._reference is not None:
            self._reference.model.to("cpu")
            torch.cuda.empty_cache()

    def park(self) -> None:
        """Gives GPU memory back; all that is held stays in host memory."""
        if not torch.cuda.is_available():
            return
        if self._trained is not None:
            self._trained.trainee.model.to("cpu")
            for name, moment in self._trained.moments.items():
                self._trained.moments[name] = moment.cpu()
        self.rest()
        torch.cuda.empty_cache()


def _shape(settings: RunSettings) -> tuple[Any, ...]:
    """Returns what decides how a policy under training is made of its files."""
    train = settings.train
    is_classifier = train.loss.kind == "bradley_terry"
    return (
        settings.policy,
        train.lora,
        train.gradient_checkpointing,
        train.kernels,
        is_classifier,
    )

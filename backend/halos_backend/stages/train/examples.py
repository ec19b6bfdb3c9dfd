"""Turns feedback rows into training examples: sampled token ids as they are, nothing re-tokenized.

One example is what `train.batch_size` counts: a pair, or one completion. Which feedback a loss can
learn from, and how it reads the other kind, is decided here and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import torch
from transformers import PreTrainedTokenizerBase

from halos_backend.config.losses import CSFT, FEEDBACK_OF_LOSS, GRPO, KTO, SFT, Loss
from halos_backend.errors import StageError
from halos_backend.records import (
    Completion,
    Feedback,
    Group,
    PreferencePair,
    UnpairedFeedback,
    read_rows,
)
from halos_backend.stages.train.losses.advantages import group_advantages, reward_std
from halos_backend.stages.train.losses.csft import control_prefix


@dataclass(frozen=True)
class TokenSequence:
    """Is a prompt and its completion, both as token ids. Equal sequences are equal keys.

    Its log-probabilities are those at `temperature`; `sampler_logps` are the sampler's own of the
    completion's tokens, at temperature 1, where the loss asks for them.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    is_cut_off: bool = field(default=False, compare=False)
    temperature: float = 1.0
    sampler_logps: tuple[float, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class PairedExample:
    """Holds two completions of one prompt; the chosen one is better."""

    chosen: TokenSequence
    rejected: TokenSequence

    @property
    def sequences(self) -> tuple[TokenSequence, ...]:
        return (self.chosen, self.rejected)


@dataclass(frozen=True)
class UnpairedExample:
    """Holds one completion, good or bad."""

    sequence: TokenSequence
    is_desirable: bool

    @property
    def sequences(self) -> tuple[TokenSequence, ...]:
        return (self.sequence,)


@dataclass(frozen=True)
class GroupedExample:
    """Holds one completion of a group, with its reward and its advantage over the whole group."""

    sequence: TokenSequence
    group: int
    advantage: float
    reward: float = field(default=0.0, compare=False)

    @property
    def sequences(self) -> tuple[TokenSequence, ...]:
        return (self.sequence,)


Example = PairedExample | UnpairedExample | GroupedExample


@dataclass(frozen=True)
class RoundExamples:
    """Holds what a round trains on.

    It counts how many completions of its feedback had no reward, and how many examples give no loss
    because a completion was cut off.
    """

    examples: tuple[Example, ...]
    num_unscored: int = 0
    num_masked: int = 0


def read_examples(
    feedback: Path,
    loss: Loss,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    mask_cut_off: bool = False,
    temperature: float = 1.0,
) -> RoundExamples:
    """Returns the examples of a feedback file, in its order; `temperature` is that of completions
    which say none. Raises StageError for an empty file.
    """
    rows = list(read_rows(feedback, Feedback))
    if not rows:
        raise StageError(
            f"{feedback} has no feedback to train on: the round has nothing to teach."
            " Lower label.feedback's threshold, raise sample.temperature, or take more prompts"
        )
    made = make_examples(rows, loss, tokenizer, temperature=temperature)
    if not mask_cut_off:
        return made
    left = tuple(each for each in made.examples if not _has_cut_off(each))
    return replace(made, examples=left, num_masked=len(made.examples) - len(left))


def _has_cut_off(example: Example) -> bool:
    return any(sequence.is_cut_off for sequence in example.sequences)


def make_examples(
    rows: Sequence[Feedback],
    loss: Loss,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    temperature: float = 1.0,
) -> RoundExamples:
    """Returns the rows as `loss` sees them. `tokenizer` is for csft's control texts only."""
    match loss:
        case GRPO():
            return _grouped(rows, loss, temperature)
        case KTO():
            return RoundExamples(tuple(_unpaired(rows, loss)))
        case SFT():
            return RoundExamples(tuple(e for e in _unpaired(rows, loss) if e.is_desirable))
        case CSFT():
            if tokenizer is None:
                raise StageError("csft needs the policy's tokenizer for its control texts")
            return RoundExamples(tuple(_prefixed(_unpaired(rows, loss), loss, tokenizer)))
        case _:
            return RoundExamples(tuple(_paired(rows, loss)))


def _paired(rows: Sequence[Feedback], loss: Loss) -> Iterable[PairedExample]:
    for row in rows:
        if not isinstance(row, PreferencePair):
            _refuse(row, loss)
        yield PairedExample(_sequence(row, row.chosen), _sequence(row, row.rejected))


def _unpaired(rows: Sequence[Feedback], loss: Loss) -> Iterable[UnpairedExample]:
    """Yields binary feedback as it is; a pair is a desirable and an undesirable completion."""
    for row in rows:
        match row:
            case UnpairedFeedback():
                yield UnpairedExample(_sequence(row, row.completion), row.is_desirable)
            case PreferencePair():
                yield UnpairedExample(_sequence(row, row.chosen), is_desirable=True)
                yield UnpairedExample(_sequence(row, row.rejected), is_desirable=False)
            case Group():
                _refuse(row, loss)


def control_tokens(
    loss: Loss, tokenizer: PreTrainedTokenizerBase | None, *, is_desirable: bool
) -> tuple[int, ...]:
    """Returns csft's control text as token ids, as sampling puts the desirable one after each
    prompt.

    Without csft there is none.
    """
    if not isinstance(loss, CSFT) or tokenizer is None:
        return ()
    text = control_prefix(
        is_desirable=is_desirable, chosen=loss.chosen_prefix, rejected=loss.rejected_prefix
    )
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _prefixed(
    examples: Iterable[UnpairedExample], loss: CSFT, tokenizer: PreTrainedTokenizerBase
) -> Iterable[UnpairedExample]:
    """Yields each completion behind its control text, which is learned with it."""
    prefixes = {
        is_desirable: control_tokens(loss, tokenizer, is_desirable=is_desirable)
        for is_desirable in (True, False)
    }
    for example in examples:
        sequence = example.sequence
        completion = prefixes[example.is_desirable] + sequence.completion
        yield replace(example, sequence=replace(sequence, completion=completion))


def _grouped(rows: Sequence[Feedback], loss: GRPO, temperature: float) -> RoundExamples:
    """Returns scored completions with their advantage over all scored completions of
    their group.
    """
    sequences: list[TokenSequence] = []
    groups: list[int] = []
    rewards: list[float] = []
    num_unscored = 0
    for number, row in enumerate(rows):
        if not isinstance(row, Group):
            _refuse(row, loss)
        for completion in row.completions:
            if completion.reward is None:
                num_unscored += 1
                continue
            sequences.append(
                _with_sampling(_sequence(row, completion), completion, loss, temperature)
            )
            groups.append(number)
            rewards.append(completion.reward)
    advantages = _advantages(rewards, groups, loss)
    examples = tuple(map(GroupedExample, sequences, groups, advantages, rewards))
    return RoundExamples(examples, num_unscored)


def with_rewards(
    examples: Sequence[GroupedExample], rewards: Sequence[float], loss: GRPO
) -> list[GroupedExample]:
    """Returns the examples of whole groups with these rewards, and the advantages they give."""
    advantages = _advantages(rewards, [example.group for example in examples], loss)
    return [
        replace(example, reward=reward, advantage=advantage)
        for example, reward, advantage in zip(examples, rewards, advantages, strict=True)
    ]


def _advantages(rewards: Sequence[float], groups: Sequence[int], loss: GRPO) -> list[float]:
    # Group by group: one call over all of them needs groups x completions of memory.
    advantages = [0.0] * len(rewards)
    of_round = torch.tensor(rewards, dtype=torch.float64)
    round_std = reward_std(of_round) if loss.scale_over == "round" else None
    for members in _members(groups):
        values = group_advantages(
            rewards=torch.tensor([rewards[i] for i in members], dtype=torch.float64),
            group_index=torch.zeros(len(members), dtype=torch.long),
            scale=loss.scale_advantages,
            baseline=loss.baseline,
            round_std=round_std,
        )
        for index, value in zip(members, values.tolist(), strict=True):
            advantages[index] = value
    return advantages


def _members(groups: Sequence[int]) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    return list(members.values())


def _sequence(row: Feedback, completion: Completion) -> TokenSequence:
    if not row.prompt_token_ids:
        raise StageError(
            f"prompt {row.prompt_id!r} has no tokens, so nothing predicts its completion's first:"
            " the chat template must put something before a completion"
        )
    return TokenSequence(
        row.prompt_token_ids, completion.token_ids, completion.finish_reason == "length"
    )


def _with_sampling(
    sequence: TokenSequence, completion: Completion, loss: GRPO, temperature: float
) -> TokenSequence:
    """Adds what the loss asks of how the completion was sampled."""
    if loss.sampler_ratio_cap is not None:
        if len(completion.logps) != len(completion.token_ids):
            raise StageError(
                f"completion {completion.completion_id!r} has no log-probabilities of its sampler,"
                " which train.loss.sampler_ratio_cap takes",
                fix="set it from a round on that is not sampled yet, or take it out",
            )
        sequence = replace(sequence, sampler_logps=completion.logps)
    if loss.at_sampling_temperature:
        own = completion.temperature
        sequence = replace(sequence, temperature=temperature if own is None else own)
    return sequence


def _refuse(row: Feedback, loss: Loss) -> NoReturn:
    found = {Group: "scalar", PreferencePair: "pairwise", UnpairedFeedback: "binary"}[type(row)]
    wanted = " or ".join(FEEDBACK_OF_LOSS[loss.kind])
    raise StageError(
        f"the loss {loss.kind} cannot learn from {found} feedback",
        fix=f"set label.feedback.kind to {wanted}",
    )

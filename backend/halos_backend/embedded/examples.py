"""Makes what the tiny models learn from: a careless student's solutions, and pairs for
the judge.
"""

from __future__ import annotations

import random
from pathlib import Path

from halos_backend.embedded.task import VERB, Problem, corrupt
from halos_backend.records import Completion, PreferencePair, UnpairedFeedback
from halos_backend.stages.chat import prompt_token_ids


class Encoder:
    """Makes token ids of prompts and completions.

    The template's own tokens are taken from one rendered prompt: rendering each would cost more
    than the training.
    """

    def __init__(self, tokenizer_path: Path) -> None:
        from transformers import AutoTokenizer  # 2 s that a built cache need not wait

        tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
        self._ids: dict[str, int] = tokenizer.get_vocab()
        self._end = int(tokenizer.eos_token_id)
        rendered = prompt_token_ids(tokenizer, [[{"role": "user", "content": VERB}]])[0]
        place = rendered.index(self._ids[VERB])
        self._before, self._after = rendered[:place], rendered[place + 1 :]

    def prompt(self, text: str) -> tuple[int, ...]:
        return (*self._before, *(self._ids[word] for word in text.split()), *self._after)

    def completion(self, text: str) -> Completion:
        ids = (*(self._ids[word] for word in text.split()), self._end)
        return Completion("0", text, ids, "stop")


def demonstration(
    problem: Problem, encoder: Encoder, numbers: random.Random, *, careless_frac: float
) -> UnpairedFeedback:
    """Returns a problem as a careless student solves it: a policy that imitates this has much to
    learn.
    """
    is_careless = numbers.random() < careless_frac
    answer = corrupt(problem.answer, numbers, num_errors=1) if is_careless else problem.answer
    return UnpairedFeedback(
        prompt_id=problem.prompt,
        prompt=({"role": "user", "content": problem.prompt},),
        prompt_token_ids=encoder.prompt(problem.prompt),
        completion=encoder.completion(answer),
        is_desirable=True,
        reward=1.0,
    )


def answer_pair(problem: Problem, encoder: Encoder, numbers: random.Random) -> PreferencePair:
    """Returns the answer against a wrong one; now and then a wrong one against a worse one."""
    is_right = numbers.random() < 0.8
    chosen = problem.answer if is_right else corrupt(problem.answer, numbers, num_errors=1)
    rejected = corrupt(problem.answer, numbers, num_errors=1 if is_right else 3)
    return PreferencePair(
        prompt_id=problem.prompt,
        prompt=({"role": "user", "content": problem.prompt},),
        prompt_token_ids=encoder.prompt(problem.prompt),
        chosen=encoder.completion(chosen),
        rejected=encoder.completion(rejected),
        reward_chosen=1.0,
        reward_rejected=0.0,
    )

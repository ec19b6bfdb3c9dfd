"""Runs several vLLM engines side by side as one, each a process on devices of its own.

A prompt's completions go to one replica, which has the prompt cached; the least busy replica gets
the next prompt. The messages between stage and replicas stand at the end.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from transformers import PreTrainedTokenizerBase

from halos_backend.config.schema import RunSettings
from halos_backend.errors import (
    EngineDiedError,
    HalosError,
    MissingInputError,
    NonFiniteError,
    OutOfMemoryError,
    StageError,
    UsageError,
)
from halos_backend.interpreters.programs import program_environment
from halos_backend.records import FinishReason
from halos_backend.stages.companion import Companion
from halos_backend.stages.sample.choose_weights import Weights
from halos_backend.stages.sample.engine import Generated, Request
from halos_backend.stages.sample.sampling import Sampling

WINDOW = 512
"""Is how many completions a replica is asked for at a time at most: more than it has in
one batch.
"""
CLOSE_TIMEOUT_S = 20.0


class _Replica:
    """Is a child process and what it says, which a thread of its own puts into `answers`."""

    def __init__(
        self, number: int, environment: Mapping[str, str], answers: queue.SimpleQueue[Any]
    ) -> None:
        self.number = number
        self.num_running = 0
        self.companion = Companion(
            "halos_backend.stages.sample.replica",
            answers=Answer,
            environment={**program_environment(), **environment},
        )
        self.channel = self.companion.channel
        self._answers = answers
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, order: Order) -> None:
        """Sends an order; a replica that takes no more of them has said the reason."""
        try:
            self.channel.send(order)
        except OSError:
            self._answers.put((self, None))

    def _listen(self) -> None:
        while not self.channel.is_closed:
            for answer in self.channel.receive(wait=True):
                self._answers.put((self, answer))
        self._answers.put((self, None))
        self.channel.close()


class ReplicatedEngine:
    """Has one replica for each of `environments`, which give it its devices and threads."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        weights: Weights,
        sampling: Sampling,
        settings: RunSettings,
        environments: Sequence[Mapping[str, str]],
    ) -> None:
        self.sampling = sampling
        self._arguments = dict(arguments)
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replicas = [
            _Replica(number, environment, self._answers)
            for number, environment in enumerate(environments, start=1)
        ]
        try:
            self.begin(weights, sampling, settings)
        except BaseException:
            self.close()
            raise

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Is the policy's tokenizer; see Engine."""
        return self.sampling.ending.tokenizer

    def begin(self, weights: Weights, sampling: Sampling, settings: RunSettings) -> None:
        """Goes on with these weights, for a round of these settings."""
        self.sampling = sampling
        self._order(Begin(settings.model_dump(mode="json"), weights, self._arguments), Ready)

    def generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        """Generates on all replicas; see Engine."""
        waiting = deque(_groups(requests))
        num_left = len(requests)
        while num_left:
            self._hand_out(waiting, requests)
            replica, answer = self._next()
            if isinstance(answer, Made):
                num_left -= 1
                replica.num_running -= 1
                yield (
                    answer.number,
                    Generated(answer.token_ids, answer.text, answer.finish_reason, answer.logps),
                )
            stepped()

    def park(self) -> None:
        """Gives GPU memory back until the next `begin`; it is free when this returns."""
        self._order(Park(), Parked)

    def close(self) -> None:
        """Ends all replicas; see Engine."""
        for replica in self._replicas:
            replica.channel.shut()
        for replica in self._replicas:
            replica.companion.end(CLOSE_TIMEOUT_S)

    def _order(self, order: Order, done: type[Ready] | type[Parked]) -> None:
        """Has every replica do it, and waits for all; other answers are of the round that ended."""
        for replica in self._replicas:
            replica.send(order)
        waited_for = {replica.number for replica in self._replicas}
        while waited_for:
            replica, answer = self._next()
            if isinstance(answer, done):
                waited_for.discard(replica.number)

    def _hand_out(self, waiting: deque[list[int]], requests: Sequence[Request]) -> None:
        while waiting:
            replica = min(self._replicas, key=lambda one: one.num_running)
            if replica.num_running and replica.num_running + len(waiting[0]) > WINDOW:
                return
            for number in waiting.popleft():
                request = requests[number]
                replica.num_running += 1
                replica.send(
                    Ask(
                        number,
                        request.prompt_token_ids,
                        request.seed,
                        request.wants_logps,
                        request.temperature,
                    )
                )

    def _next(self) -> tuple[_Replica, Any]:
        """Returns what a replica says next. Raises what one refused, EngineDiedError for any other
        end.
        """
        replica, answer = self._answers.get()
        if isinstance(answer, Failed):
            raise KINDS.get(answer.kind, EngineDiedError)(f"{self._name(replica)}: {answer.reason}")
        if answer is None:
            code = replica.companion.process.wait()
            raise EngineDiedError(
                f"{self._name(replica)} ended with exit code {code}; this attempt's stdout.log may"
                " say why"
            )
        return replica, answer

    def _name(self, replica: _Replica) -> str:
        return f"vLLM engine {replica.number} of {len(self._replicas)}"


def _groups(requests: Sequence[Request]) -> list[list[int]]:
    """Returns numbers of neighbouring requests with one prompt."""
    numbers = range(len(requests))
    return [list(group) for _, group in groupby(numbers, lambda i: requests[i].prompt_token_ids)]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Orders to take these weights, for a round of these settings. `arguments` are vLLM's
    EngineArgs.
    """

    settings: dict[str, Any]
    weights: Weights
    arguments: dict[str, Any]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Orders this completion; see `Request`. `number` is what it is called in the answer."""

    number: int
    prompt_token_ids: tuple[int, ...]
    seed: int
    wants_logps: bool
    temperature: float | None = None


class Park(msgspec.Struct, frozen=True, tag=True):
    """Orders to give GPU memory back until the next `Begin`."""


Order = Begin | Ask | Park


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Says that the policy is loaded."""


class Parked(msgspec.Struct, frozen=True, tag=True):
    """Says that GPU memory is given back."""


class Made(msgspec.Struct, frozen=True, tag=True):
    """Brings a completion; see `Generated`."""

    number: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logps: tuple[float, ...]


class Stepped(msgspec.Struct, frozen=True, tag=True):
    """Says that the replica is at work."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Is a replica's last word. `kind` is the name of the error, one of ours or not."""

    reason: str
    kind: str


Answer = Ready | Parked | Made | Stepped | Failed

KINDS: dict[str, type[HalosError]] = {
    error.__name__: error
    for error in (
        EngineDiedError,
        MissingInputError,
        NonFiniteError,
        OutOfMemoryError,
        StageError,
        UsageError,
    )
}
"""Names the errors that keep their kind on their way from a replica to the stage."""

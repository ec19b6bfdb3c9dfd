"""Runs one of several vLLM engines of a stage: `python -m halos_backend.stages.sample.replica FD`.

It takes orders over the socket pair of file descriptor FD, and ends when the other end is closed.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from contextlib import suppress

from halos_backend import clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode, HalosError
from halos_backend.stages.channel import Channel
from halos_backend.stages.runtime import importing
from halos_backend.stages.sample.engine import Request
from halos_backend.stages.sample.replicated_engine import (
    Ask,
    Begin,
    Failed,
    Made,
    Order,
    Park,
    Parked,
    Ready,
    Stepped,
)

with importing("vllm"):
    from halos_backend.stages.sample.sampling import load_sampling
    from halos_backend.stages.sample.vllm_engine import VllmEngine

STEPPED_INTERVAL_S = 0.1


class Replica:
    """Carries out what is ordered, with one engine."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._engine: VllmEngine | None = None
        self._numbers: dict[str, int] = {}
        self._said = float("-inf")

    def serve(self) -> None:
        """Serves until the other end is closed."""
        while not self._channel.is_closed:
            is_idle = self._engine is None or not self._engine.num_running
            for order in self._channel.receive(wait=is_idle):
                self._carry_out(order)
            if self._engine is not None and self._engine.num_running:
                self._step(self._engine)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _carry_out(self, order: Order) -> None:
        match order:
            case Begin():
                self._begin(order)
            case Ask():
                assert self._engine is not None, "asked before it has begun"
                request = Request(
                    order.prompt_token_ids, order.seed, order.wants_logps, order.temperature
                )
                self._numbers[self._engine.submit(request)] = order.number
            case Park():
                if self._engine is not None:
                    self._engine.park()
                self._channel.send(Parked())

    def _begin(self, order: Begin) -> None:
        settings = RunSettings.model_validate(order.settings)
        sampling = load_sampling(order.weights.model, settings)
        if self._engine is None:
            self._engine = VllmEngine(order.arguments, order.weights, sampling)
        else:
            self._engine.begin(order.weights, sampling)
        self._channel.send(Ready())

    def _step(self, engine: VllmEngine) -> None:
        for name, made in engine.step():
            number = self._numbers.pop(name)
            self._channel.send(
                Made(number, made.token_ids, made.text, made.finish_reason, made.logps)
            )
        if clock.monotonic() - self._said > STEPPED_INTERVAL_S:
            self._said = clock.monotonic()
            self._channel.send(Stepped())


def main() -> ExitCode:
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), Order)
    replica = Replica(channel)
    try:
        replica.serve()
    except BaseException as error:  # noqa: BLE001  the edge of the process
        if not isinstance(error, HalosError):
            traceback.print_exc()
        with suppress(OSError):
            channel.send(Failed(str(error) or type(error).__name__, type(error).__name__))
        return ExitCode.FAILED
    finally:
        replica.close()
    return ExitCode.COMPLETED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

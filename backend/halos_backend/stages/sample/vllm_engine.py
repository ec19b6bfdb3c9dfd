"""Owns the vLLM engine: driven step by step, with the round's own seeds, ends and token ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from halos_backend.errors import EngineDiedError, NonFiniteError, StageError
from halos_backend.records import FinishReason
from halos_backend.stages.sample.choose_weights import Weights
from halos_backend.stages.sample.engine import Generated, Request
from halos_backend.stages.sample.sampling import Sampling
from halos_backend.stages.vllm.loading import Wanted, load_engine

FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
WANTED = Wanted(
    model="the policy",
    table="sample.vllm",
    lower="sample.max_new_tokens",
    without="sample.engine = 'transformers' samples without it",
)
WITHOUT_WEIGHTS, WITH_WEIGHTS = 2, 1
"""Are levels of sleep: weights are given up where the next round's are read anyway; those under
adapters are kept in host memory.
"""


@dataclass
class _Running:
    request: Request
    token_ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


class VllmEngine:
    """Is one engine on the devices that this process sees. `begin` makes it ready for another
    round.

    `arguments` are vLLM's EngineArgs by name. Raises StageError where vLLM cannot load the policy.
    """

    def __init__(self, arguments: Mapping[str, Any], weights: Weights, sampling: Sampling) -> None:
        self.sampling = sampling
        self.path: str = arguments["model"]
        self._takes_adapters = weights.rank > 0
        self._adapter: LoRARequest | None = None
        self._running: dict[str, _Running] = {}
        self._num_requests = 0
        self._is_asleep = False
        self._engine = load_engine(arguments, WANTED)
        self._max_tokens: int = self._engine.model_config.max_model_len
        self._vocabulary: int = self._engine.model_config.get_vocab_size()
        try:
            self._take_adapter(weights.adapter)
        except BaseException:
            self.close()
            raise

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Is the policy's tokenizer; see Engine."""
        return self.sampling.ending.tokenizer

    @property
    def num_running(self) -> int:
        """Counts the requests that are submitted and not finished."""
        return len(self._running)

    def generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        """Generates with vLLM; see Engine."""
        positions = {self.submit(request): index for index, request in enumerate(requests)}
        try:
            while self._running:
                for name, generated in self.step():
                    yield positions[name], generated
                stepped()
        finally:
            self.abort()

    def submit(self, request: Request) -> str:
        """Takes a request; returns the name under which `step` gives its completion."""
        name = str(self._num_requests)
        room = self._max_tokens - len(request.prompt_token_ids)
        if room < 1:
            raise StageError(
                f"a prompt of {len(request.prompt_token_ids)} tokens leaves no room for a"
                f" completion in vLLM's max_model_len = {self._max_tokens}: raise"
                " sample.vllm.arguments.max_model_len, or take it out"
            )
        self._num_requests += 1
        self._running[name] = _Running(request)
        prompt: Any = {"prompt_token_ids": list(request.prompt_token_ids)}
        self._engine.add_request(
            name, prompt, self._parameters(request, room), lora_request=self._adapter
        )
        return name

    def step(self) -> Iterator[tuple[str, Generated]]:
        """Computes the next tokens; yields the completions that end with them."""
        for output in self._engine.step():
            running = self._running.get(output.request_id)
            if running is None:  # ended by a stop string, which vLLM did not know in time
                continue
            generated = self._take(running, output)
            if generated is not None:
                del self._running[output.request_id]
                if not output.finished:
                    self._engine.abort_request([output.request_id])
                yield output.request_id, generated

    def abort(self) -> None:
        """Forgets what is running."""
        if self._running:
            self._engine.abort_request(list(self._running))
            self._running.clear()

    def begin(self, weights: Weights, sampling: Sampling, _settings: object = None) -> None:
        """Goes on with these weights, which are not read anew where they are loaded."""
        self.sampling = sampling
        if self._takes_adapters and self._is_asleep:
            self._engine.wake_up()
            self._is_asleep = False
        if weights.model != self.path or self._is_asleep:
            self.load(weights.model)
        self._take_adapter(weights.adapter)

    def load(self, path: str) -> None:
        """Takes the weights at `path`; nothing of the old ones stays in any cache."""
        if self._is_asleep:
            self._engine.wake_up(["weights"])
        self._engine.collective_rpc("halos_reload", kwargs={"weights_path": path})
        if self._is_asleep:
            self._engine.wake_up(["kv_cache"])
            self._is_asleep = False
        self._forget()
        self.path = path

    def park(self) -> None:
        """Gives GPU memory back until the next `load`; on a CPU there is no such thing."""
        if self._engine.vllm_config.model_config.enable_sleep_mode:
            self._engine.sleep(WITH_WEIGHTS if self._takes_adapters else WITHOUT_WEIGHTS)
            self._is_asleep = True

    def close(self) -> None:
        """Ends the engine and waits until vLLM's own processes are gone; see Engine."""
        self._engine.engine_core.shutdown()

    def _take_adapter(self, path: str | None) -> None:
        """Takes adapters instead of those before.

        A number is never used again: vLLM would take its old adapters for the new ones.
        """
        before = self._adapter
        if path is None or (before is not None and before.lora_path == path):
            return
        number = before.lora_int_id + 1 if before else 1
        adapter = LoRARequest(f"policy {number}", number, path)
        try:
            if before is not None:
                self._engine.remove_lora(before.lora_int_id)
            self._engine.add_lora(adapter)
        except EngineDeadError:
            raise
        except Exception as error:  # its own process answers with no more than that
            raise StageError(
                f"vLLM does not take the adapters in {path}: {error}",
                fix="sample.vllm.arguments.enable_lora = false samples with merged weights",
            ) from error
        self._forget()
        self._adapter = adapter

    def _forget(self) -> None:
        if not self._engine.reset_prefix_cache():
            raise EngineDiedError("vLLM did not give up what it had cached of the policy before")

    def _parameters(self, request: Request, room: int) -> SamplingParams:
        """Makes vLLM's parameters; strings that stop are looked for here, as the transformers
        engine does.
        """
        sampling = self.sampling
        whole = not sampling.ending.stop
        most = min(sampling.max_new_tokens, room)
        return SamplingParams(
            temperature=sampling.temperature_of(request),
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=request.seed,
            max_tokens=most,
            min_tokens=min(sampling.ending.min_new_tokens, most),
            # ids beyond the vocabulary, which some tokenizers have, are none that it could mask
            stop_token_ids=sorted(i for i in sampling.ending.token_ids if i < self._vocabulary),
            logprobs=0 if request.wants_logps else None,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
        )

    def _take(self, running: _Running, output: Any) -> Generated | None:
        """Adds what is new; returns the completion where it has ended."""
        ending, part = self.sampling.ending, output.outputs[0]
        if running.request.wants_logps:
            running.logps.extend(_logps(part.token_ids, part.logprobs))
        for token in part.token_ids:
            running.token_ids.append(token)
            if ending.stop and ending.is_at(running.token_ids):
                return ending.generated(running.token_ids, "stop", running.logps)
        if not output.finished:
            return None
        reason = FINISH_REASONS.get(part.finish_reason)
        if reason is None:
            raise StageError(f"vLLM ended a completion by itself: {part.finish_reason}")
        return ending.generated(running.token_ids, reason, running.logps)


def _logps(token_ids: Sequence[int], logprobs: Any) -> list[float]:
    """Returns the sampled tokens' own log-probabilities. Raises NonFiniteError."""
    values = [
        float(entries[token].logprob)
        for token, entries in zip(token_ids, logprobs or (), strict=True)
    ]
    if not all(math.isfinite(value) for value in values):
        raise NonFiniteError(
            "the policy's log-probabilities are NaN or infinite",
            fix="see whether its weights are, or"
            ' take policy.dtype = "bfloat16" or "float32" in place of float16',
        )
    return values

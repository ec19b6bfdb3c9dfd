"""Computes token log-probabilities of completions, never holding (rows, tokens, vocabulary) in
fp32.

Only hidden states that predict a completion token go through the output embeddings, in chunks; the
log-softmax is fp32. Models that do more than one linear map after their last hidden state (soft
caps, logit scales) are found by `has_plain_head` and go through their own forward, of completions'
columns only where it can leave out others. It makes all logits of a batch at once: `precompute`
takes few rows for it, but a pass with gradients holds (rows, completions' columns, vocabulary) in
fp32, some three times.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from halos_backend.stages.packing import is_packed, packed_hidden_states
from halos_backend.stages.train.collate import TokenBatch, collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.losses.kl import categorical_kl
from halos_backend.stages.train.sharding import is_sharded, run_whole

CHUNK_ELEMENTS = 1 << 25
"""Is how many logits are held at a time: 128 MiB in fp32. A chunk of 1,024 rows of a 32,768-token
vocabulary.
"""
KL_CHUNK_ELEMENTS = CHUNK_ELEMENTS // 8
"""Is the same of each of two models, whose KL takes some eight tensors of that size."""

LogitsOf = Callable[[slice], Tensor]
"""Returns fp32 logits (rows, vocabulary) of a part of a batch's predicted tokens."""


def has_plain_head(policy: PreTrainedModel) -> bool:
    """Says whether logits are the output embeddings of the decoder's hidden states and nothing
    else.

    This is asked of the model itself, with a few tokens, rather than of a list of known
    architectures.
    """
    head = policy.get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    probe = torch.arange(4, device=head.weight.device).unsqueeze(0)
    with torch.no_grad():
        logits = policy(input_ids=probe, use_cache=False).logits
        try:
            hidden = _hidden_states(policy, probe, None)
            return torch.equal(head(hidden), logits)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False  # this decoder cannot be called alone; its own forward can


def token_logps(policy: PreTrainedModel, batch: TokenBatch, *, is_plain: bool) -> Tensor:
    """Returns log-probabilities of the completions' tokens, (rows, completion tokens), 0 outside
    the mask; at the temperatures of the batch.

    `is_plain` is `has_plain_head(policy)`. A sharded policy must be run equally often on every
    rank, and it is, whatever the batch.
    """
    if batch.targets.numel() == 0:
        nothing = batch.completion_mask.float()
        if not is_sharded(policy):
            return nothing
        idle = run_idle(
            policy, pad_token_id=batch.pad_token_id, device=batch.device, is_plain=is_plain
        )
        return nothing + idle
    return run_whole(policy, _token_logps, batch, is_plain)


def token_kls(
    policy: PreTrainedModel,
    initial: PreTrainedModel,
    batch: TokenBatch,
    *,
    policy_is_plain: bool,
    initial_is_plain: bool,
) -> Tensor:
    """Returns KL(policy || initial) of what may come next before each of the completions' tokens.

    (rows, completion tokens), 0 outside the mask; exact: over the vocabulary, at temperature 1.
    Without gradient. Both models have the same vocabulary.
    """
    if batch.targets.numel() == 0:
        if is_sharded(policy):
            idle = idle_batch(pad_token_id=batch.pad_token_id, device=batch.device)
            run_whole(policy, _token_kls, policy_is_plain, initial, initial_is_plain, idle)
        return batch.completion_mask.float()
    return run_whole(policy, _token_kls, policy_is_plain, initial, initial_is_plain, batch)


def idle_batch(*, pad_token_id: int, device: torch.device) -> TokenBatch:
    """Makes a batch for a rank that must run a model and has nothing to run it on."""
    nothing = TokenSequence((pad_token_id,), (pad_token_id,))
    return collate([nothing], pad_token_id=pad_token_id, device=device)


def run_idle(
    policy: PreTrainedModel, *, pad_token_id: int, device: torch.device, is_plain: bool
) -> Tensor:
    """Returns 0 with gradients that are 0, of a pass for a rank that has nothing to do in it."""
    batch = idle_batch(pad_token_id=pad_token_id, device=device)
    return 0.0 * token_logps(policy, batch, is_plain=is_plain).sum()


def _token_logps(policy: PreTrainedModel, batch: TokenBatch, is_plain: bool) -> Tensor:
    if not is_plain:
        logits = _logits_of_forward(policy, batch)
        return batch.unflatten(_log_softmax_of(logits, batch.targets, batch.temperatures))
    head: Any = policy.get_output_embeddings()
    rows = _predicting_states(policy, batch)
    return batch.unflatten(
        linear_logps(rows, head.weight, head.bias, batch.targets, temperatures=batch.temperatures)
    )


def _token_kls(
    policy: PreTrainedModel,
    policy_is_plain: bool,
    initial: PreTrainedModel,
    initial_is_plain: bool,
    batch: TokenBatch,
) -> Tensor:
    """Computes KLs; the other model runs within this one's run, so that both heads are whole in the
    end.
    """
    logits_of = _predicted_logits(policy, batch, policy_is_plain)
    return run_whole(initial, _kls_of, initial_is_plain, logits_of, batch)


def _kls_of(
    initial: PreTrainedModel, is_plain: bool, policy_logits_of: LogitsOf, batch: TokenBatch
) -> Tensor:
    initial_logits_of = _predicted_logits(initial, batch, is_plain)
    vocabulary = policy_logits_of(slice(0, 1)).shape[-1]
    size = max(1, KL_CHUNK_ELEMENTS // vocabulary)
    parts = [slice(start, start + size) for start in range(0, len(batch.targets), size)]
    kls = [categorical_kl(policy_logits_of(part), initial_logits_of(part)) for part in parts]
    return batch.unflatten(torch.cat(kls))


def _predicted_logits(policy: PreTrainedModel, batch: TokenBatch, is_plain: bool) -> LogitsOf:
    """Runs the model; the fp32 logits of any of the n predicted tokens can then be asked for."""
    if not is_plain:
        logits = _logits_of_forward(policy, batch)
        return lambda part: logits[part].float()
    rows = _predicting_states(policy, batch)
    head: Any = policy.get_output_embeddings()
    return lambda part: nn.functional.linear(rows[part], head.weight, head.bias).float()


def _predicting_states(policy: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Returns the hidden states that predict the completions' tokens, (n, width)."""
    if is_packed(policy):
        row, positions = batch.packed
        hidden = packed_hidden_states(policy, row)
    else:
        padded = batch.padded
        hidden = _hidden_states(policy, padded.input_ids, padded.attention_mask)
        positions = padded.positions
    return hidden.flatten(0, 1).index_select(0, positions)


def linear_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    temperatures: Tensor | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Computes log softmax(hidden @ weight.T + bias)[targets], (n,) in fp32, for hidden (n, width).

    `temperatures` (n,) divide the logits. Those that fit into one chunk are kept for the backward
    pass; more are computed again there.
    """
    chunk_rows = max(1, chunk_elements // weight.shape[0])
    if len(hidden) <= chunk_rows:
        return _log_softmax_of(nn.functional.linear(hidden, weight, bias), targets, temperatures)
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    logps: Tensor = _ChunkedLogps.apply(
        hidden, weight, bias, targets, temperatures, chunk_rows, dtype
    )
    return logps


def _logits_of_forward(policy: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Returns (n, vocabulary) from the model's own forward, of no column that predicts no
    completion.
    """
    padded, columns = batch.padded, None
    width = padded.input_ids.shape[1]
    kept: dict[str, Tensor] = {}
    if "logits_to_keep" in inspect.signature(policy.forward).parameters:
        columns = (padded.positions % width).unique()
        kept["logits_to_keep"] = columns
    logits = policy(
        input_ids=padded.input_ids, attention_mask=padded.attention_mask, use_cache=False, **kept
    ).logits
    places = padded.positions
    if columns is not None:
        row, column = places // width, torch.searchsorted(columns, places % width)
        places = row * len(columns) + column
    return logits.flatten(0, 1).index_select(0, places)


def _hidden_states(
    policy: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None
) -> Tensor:
    decoder: Any = policy.get_decoder()
    hidden: Tensor = decoder(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    return hidden


def _log_softmax_of(logits: Tensor, targets: Tensor, temperatures: Tensor | None) -> Tensor:
    scaled = _scaled(logits.float(), temperatures)
    return -nn.functional.cross_entropy(scaled, targets, reduction="none")


def _scaled(logits: Tensor, temperatures: Tensor | None) -> Tensor:
    return logits if temperatures is None else logits / temperatures.unsqueeze(-1)


class _ChunkedLogps(torch.autograd.Function):
    """Keeps the log-sum-exp of each row instead of its logits; the backward computes them again.

    On 16 x 256 tokens and a vocabulary of 49,152 that is 0.51 GiB and 7.3 s against 2.26 GiB and
    5.7 s of a plain log-softmax, and 0.59 GiB and 10 s of torch.utils.checkpoint.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperatures: Tensor | None,
        chunk_rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        logps, sums = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk_rows):
                part = slice(start, start + chunk_rows)
                ids, own = targets[part], None if temperatures is None else temperatures[part]
                logits = _scaled(_logits(hidden[part], weight, bias, dtype), own)
                log_sum = logits.logsumexp(-1)
                logps.append(logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - log_sum)
                sums.append(log_sum)
        ctx.save_for_backward(hidden, weight, bias, targets, temperatures, torch.cat(sums))
        ctx.chunk_rows, ctx.dtype = chunk_rows, dtype
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        hidden, weight, bias, targets, temperatures, log_sums = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), ctx.chunk_rows):
                part = slice(start, start + ctx.chunk_rows)
                own = None if temperatures is None else temperatures[part]
                logits = _scaled(_logits(hidden[part], weight, bias, ctx.dtype), own)
                # d logp / d logits = onehot(target) - softmax
                grad_logits = logits.sub_(log_sums[part].unsqueeze(-1)).exp_().neg_()
                ones = torch.ones_like(log_sums[part]).unsqueeze(-1)
                grad_logits.scatter_add_(-1, targets[part].unsqueeze(-1), ones)
                grad_logits.mul_(_scaled(grads[0][part].unsqueeze(-1), own))
                if grad_bias is not None:
                    grad_bias += grad_logits.sum(0)
                small = grad_logits.to(ctx.dtype)
                if grad_hidden is not None:
                    grad_hidden[part] = (small @ weight.to(ctx.dtype)).to(hidden.dtype)
                if grad_weight is not None:
                    grad_weight += (small.t() @ hidden[part].to(ctx.dtype)).float()
        grad_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        grad_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Computes fp32 logits of a matrix product in `dtype`, as autocast would give them."""
    bias = None if bias is None else bias.to(dtype)
    return nn.functional.linear(hidden.to(dtype), weight.to(dtype), bias).float()

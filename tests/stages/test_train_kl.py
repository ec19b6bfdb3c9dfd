"""KL to the initial policy: exact at each token, and what it is an estimate of, by enumeration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.schema import LaunchSettings
from halos_backend.stages.packing import is_packed, pack
from halos_backend.stages.train import logps
from halos_backend.stages.train.collate import collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.kl_initial import estimate_kl
from halos_backend.stages.train.logps import has_plain_head, token_kls
from halos_backend.stages.train.ranks import join_train_ranks
from halos_backend.stages.train.reference import FrozenModel

from tests.stages.test_train_packing import LargestTensor
from tests.support.train_fixtures import (
    END,
    PAD,
    kl_alone,
    load_plain,
    make_gemma2,
    make_policy,
    token_logps_alone,
)

CPU = torch.device("cpu")
SEQUENCES = [
    TokenSequence((5, 6, 7), (8, 9, 1)),
    TokenSequence((5,), (10, 11, 12, 13, 14, 1)),
    TokenSequence((20, 21, 22, 23, 24, 25), (26,)),
    TokenSequence((20, 21), ()),
    TokenSequence((5, 6, 7), (14, 1)),
]


def moved(model: Any) -> Any:
    """Another policy, near the first."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def packed(model: Any) -> Any:
    pack(model, CPU)
    assert is_packed(model)
    return model


def with_adapters(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, config).get_base_model().eval()


def soft_capped(path: Path) -> Path:
    return make_gemma2(path, final_logit_softcapping=2.0)


CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "padded": (make_policy, moved, lambda model: model),
    "packed": (make_policy, lambda model: packed(moved(model)), packed),
    "one of them packed": (make_policy, lambda model: packed(moved(model)), lambda model: model),
    "adapters": (make_policy, lambda model: packed(with_adapters(model)), packed),
    "a head that is not plain": (soft_capped, moved, lambda model: model),
}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's
@pytest.mark.parametrize("case", list(CASES))
def test_token_kls_are_those_of_the_models_own_logits(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, change, keep = CASES[case]
    path = make(tmp_path)
    policy, initial = change(load_plain(path)), keep(load_plain(path))
    vocabulary = policy.config.get_text_config().vocab_size
    monkeypatch.setattr(logps, "KL_CHUNK_ELEMENTS", 4 * vocabulary)
    batch = collate(SEQUENCES, pad_token_id=PAD, device=CPU)
    are_plain = (has_plain_head(policy), has_plain_head(initial))
    assert are_plain == ((False, False) if case == "a head that is not plain" else (True, True))
    with torch.no_grad():
        found = token_kls(
            policy, initial, batch, policy_is_plain=are_plain[0], initial_is_plain=are_plain[1]
        )
        for sequence, row in zip(SEQUENCES, found, strict=True):
            exact = kl_alone(policy, initial, sequence.prompt, sequence.completion)
            length = len(sequence.completion)
            torch.testing.assert_close(row[:length].double(), exact[:length], atol=2e-6, rtol=0)
            assert not row[length:].any()
    assert found.max() > 0.05


def test_logits_are_held_a_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_policy(tmp_path, vocab_size=97)
    policy, initial = moved(load_plain(path)), load_plain(path)
    monkeypatch.setattr(logps, "KL_CHUNK_ELEMENTS", 3 * 97)
    batch = collate(SEQUENCES, pad_token_id=PAD, device=CPU)
    with torch.no_grad(), LargestTensor(97) as largest:
        token_kls(policy, initial, batch, policy_is_plain=True, initial_is_plain=True)
    assert largest.rows == 3


def every_completion(vocabulary: int, longest: int) -> Iterator[tuple[int, ...]]:
    """All that can be said: ended by the end token, or cut off."""
    open_ones: list[tuple[int, ...]] = [()]
    for length in range(1, longest + 1):
        spoken = [(*begun, token) for begun in open_ones for token in range(vocabulary)]
        yield from (one for one in spoken if one[-1] == END or length == longest)
        open_ones = [one for one in spoken if one[-1] != END]


def test_expected_over_all_completions_it_is_the_kl_of_the_two_policies(tmp_path: Path) -> None:
    path = make_policy(tmp_path, vocab_size=6)
    policy, initial = moved(load_plain(path)), load_plain(path)
    prompt = (2, 4, 3)
    sequences = [TokenSequence(prompt, completion) for completion in every_completion(6, 3)]
    with torch.no_grad():
        ours, theirs = (
            torch.stack([token_logps_alone(m, s.prompt, s.completion).sum() for s in sequences])
            for m in (policy, initial)
        )
    chances = ours.exp()
    assert chances.sum().item() == pytest.approx(1.0, abs=1e-6)
    exact = (chances * (ours - theirs)).sum().item()

    values = torch.tensor([estimated(policy, initial, [s]) for s in sequences]).double()
    assert exact > 0.05
    assert (chances * values).sum().item() == pytest.approx(exact, rel=1e-5)
    # one completion says more of it than its own log-ratio does
    spread = (chances * (values - exact).square()).sum()
    assert spread < 0.25 * (chances * (ours - theirs - exact).square()).sum()


def estimated(policy: Any, initial: Any, sample: list[TokenSequence]) -> float:
    found = estimate_kl(
        FrozenModel(policy, has_plain_head(policy)),
        FrozenModel(initial, has_plain_head(initial)),
        sample,
        join_train_ranks(1, LaunchSettings(device="cpu"), torch.float32),
        pad_token_id=PAD,
        max_tokens=1000,
        on_progress=lambda _done, _total: None,
    )
    assert found is not None
    return found.mean

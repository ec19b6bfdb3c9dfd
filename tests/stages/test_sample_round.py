"""The sample stage on a tiny policy, against plain `generate` one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from halos_backend.errors import StageError
from halos_backend.records import Completion, Group, Prompt, read_rows
from halos_backend.stages import runtime
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample import transformers_engine
from halos_backend.stages.sample.engine import Request
from halos_backend.stages.sample.group_writer import Tally
from halos_backend.stages.sample.transformers_engine import TransformersEngine, load_engine
from halos_backend.store.reader import attempt_journal
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from tests.support.place import make_tokenizer
from tests.support.sample_fixtures import LETTERS, SamplePlace, by_id, groups_of, run_here

GREEDY = {"temperature": 0.0, "group_size": 1, "batch_size": 4, "max_new_tokens": 24}


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    return SamplePlace(tmp_path)


def generated_alone(
    place: SamplePlace,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int] = (2,),
    path: Path | None = None,
) -> list[tuple[int, ...]]:
    """Greedy ids after each prompt by transformers' own loop, without any padding."""
    policy = AutoModelForCausalLM.from_pretrained(path or place.policy).eval()
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        output = policy.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=list(end_ids),
        )
        found.append(tuple(output[0, len(prompt) :].tolist()))
    return found


def prompts_of(place: SamplePlace) -> list[Prompt]:
    return list(read_rows(place.path / "prompts.jsonl", Prompt))


def ragged_end_ids(place: SamplePlace) -> list[int]:
    """End tokens at which some of the greedy completions end, at different lengths."""
    prompts = [prompt.token_ids for prompt in prompts_of(place)]
    whole = generated_alone(place, prompts)
    for token in range(3, 32):
        ended = {ids.index(token) for ids in whole if token in ids}
        if len(ended) >= 2 and not all(token in ids for ids in whole):
            return [2, token]
    pytest.fail("no token ends some of the completions")


def test_greedy_tokens_are_those_of_generate_one_at_a_time(place: SamplePlace) -> None:
    prompts = prompts_of(place)
    attempt = place.attempt("greedy", **GREEDY)
    run_here(attempt)
    expected = generated_alone(place, [prompt.token_ids for prompt in prompts])
    groups = by_id(attempt)
    assert [groups[p.prompt_id].completions[0].token_ids for p in prompts] == expected


def learned_positions() -> PreTrainedModel:
    sizes = {"vocab_size": 32, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


def shifted_positions() -> PreTrainedModel:
    sizes = {"vocab_size": 32, "max_position_embeddings": 64, "hidden_size": 32, "ffn_dim": 64}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32}
    return OPTForCausalLM(OPTConfig(**sizes, **layers, pad_token_id=0, eos_token_id=2))


def no_position_ids() -> PreTrainedModel:
    sizes = {"vocab_size": 32, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    return BloomForCausalLM(BloomConfig(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0))


@pytest.mark.parametrize("make", [learned_positions, shifted_positions, no_position_ids])
def test_other_architectures_give_the_tokens_of_generate(
    place: SamplePlace, make: Callable[[], PreTrainedModel]
) -> None:
    torch.manual_seed(5)
    path = place.path / "other"
    make().save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    prompts, end_ids = prompts_of(place), [2, 9]
    attempt = place.attempt("greedy", policy=path, **{**GREEDY, "stop_token_ids": end_ids})
    run_here(attempt)
    ids = [prompt.token_ids for prompt in prompts]
    expected = generated_alone(place, ids, end_ids=end_ids, path=path)
    groups = by_id(attempt)
    assert [groups[p.prompt_id].completions[0].token_ids for p in prompts] == expected


@pytest.mark.parametrize("leave_frac", [0.01, 0.25, 2.0], ids=["at once", "default", "never"])
def test_rows_that_leave_the_batch_change_nothing(
    place: SamplePlace, leave_frac: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_engine, "LEAVE_FRAC", leave_frac)
    prompts, end_ids = prompts_of(place), ragged_end_ids(place)
    attempt = place.attempt("ragged", **{**GREEDY, "batch_size": 7, "stop_token_ids": end_ids})
    run_here(attempt)
    expected = generated_alone(place, [prompt.token_ids for prompt in prompts], end_ids=end_ids)
    groups = by_id(attempt)
    assert [groups[p.prompt_id].completions[0].token_ids for p in prompts] == expected


def test_finish_reason_is_stop_exactly_where_an_end_token_is_last(place: SamplePlace) -> None:
    end_ids = ragged_end_ids(place)
    attempt = place.attempt("ends", **{**GREEDY, "stop_token_ids": end_ids[1:]})
    run_here(attempt)
    completions = [group.completions[0] for group in groups_of(attempt)]
    for completion in completions:
        if completion.finish_reason == "stop":
            assert completion.token_ids[-1] in end_ids
        else:
            assert len(completion.token_ids) == 24
        body = completion.token_ids[: -1 if completion.finish_reason == "stop" else None]
        assert not set(body) & set(end_ids)
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}


def test_groups_carry_the_prompt_and_the_policy_version(place: SamplePlace) -> None:
    attempt = place.attempt("groups", group_size=3)
    run_here(attempt)
    groups = by_id(attempt)
    assert set(groups) == {f"p{i}" for i in range(7)}
    for prompt in prompts_of(place):
        group = groups[prompt.prompt_id]
        assert group.prompt == prompt.prompt
        assert group.prompt_token_ids == prompt.token_ids
        assert group.columns == prompt.columns
        assert group.policy_version == 0
        ids = [completion.completion_id for completion in group.completions]
        assert ids == [f"{prompt.prompt_id}.{k}" for k in range(3)]


def test_completions_of_one_prompt_differ(place: SamplePlace) -> None:
    attempt = place.attempt("differ", group_size=4)
    run_here(attempt)
    for group in groups_of(attempt):
        assert len({completion.token_ids for completion in group.completions}) == 4


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(place: SamplePlace) -> None:
    first, again, other = (
        place.attempt(name, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    for attempt in (first, again, other):
        run_here(attempt)
    assert first.completions.read_bytes() == again.completions.read_bytes()
    assert first.completions.read_bytes() != other.completions.read_bytes()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_leaves_every_draw_alone(place: SamplePlace, batch_size: int) -> None:
    # in float32 logits differ by about 1e-7 between batches, too little to change one of 200 draws
    usual, other = place.attempt("usual"), place.attempt("other", batch_size=batch_size)
    run_here(usual)
    run_here(other)
    ids = [
        {c.completion_id: c.token_ids for group in groups_of(a) for c in group.completions}
        for a in (usual, other)
    ]
    assert ids[0] == ids[1]


def completions_of(place: SamplePlace, name: str, **sample: object) -> dict[str, Completion]:
    attempt = place.attempt(name, **sample)
    run_here(attempt)
    return {c.completion_id: c for group in groups_of(attempt) for c in group.completions}


def test_a_stop_string_of_several_tokens_ends_the_completion(place: SamplePlace) -> None:
    tokenizer = make_tokenizer()
    whole = completions_of(place, "whole", max_new_tokens=30)
    middle = next(c.text for c in whole.values() if len(c.token_ids) == 30)
    stop = middle[10:15]
    assert len(stop.replace(" ", "")) >= 2  # the text of two tokens or more
    stopped = completions_of(place, "stopped", max_new_tokens=30, stop=[stop])
    num_stopped = 0
    for name, completion in whole.items():
        texts = [
            tokenizer.decode(completion.token_ids[:n], skip_special_tokens=True)
            for n in range(len(completion.token_ids) + 1)
        ]
        ends = next((n for n, text in enumerate(texts) if stop in text), None)
        if ends is None:
            assert stopped[name] == completion
            continue
        num_stopped += 1
        assert stopped[name].token_ids == completion.token_ids[:ends]
        assert stopped[name].text == texts[ends][: texts[ends].index(stop)]
        assert stopped[name].finish_reason == "stop"
    assert 1 <= num_stopped < len(whole)


def test_a_special_token_can_be_a_stop_string(place: SamplePlace) -> None:
    job = {"max_new_tokens": 30, "group_size": 8}
    whole = completions_of(place, "whole", **job)
    stopped = completions_of(place, "stopped", stop=["<s>"], **job)
    with_it = [name for name, completion in whole.items() if 1 in completion.token_ids]
    assert with_it
    for name, completion in whole.items():
        end = completion.token_ids.index(1) + 1 if name in with_it else None
        assert stopped[name].token_ids == completion.token_ids[:end]
        assert "<s>" not in stopped[name].text


def test_special_tokens_are_not_in_the_text(place: SamplePlace) -> None:
    tokenizer = make_tokenizer()
    completions = completions_of(place, "special", group_size=8, max_new_tokens=30)
    ended = [c for c in completions.values() if c.token_ids[-1] == 2]
    assert ended
    for completion in ended:
        assert "</s>" not in completion.text
        letters = [i for i in completion.token_ids if i in LETTERS.values()]
        assert completion.text.split() == tokenizer.decode(letters).split()


def test_conditional_sft_samples_after_the_desirable_text(place: SamplePlace) -> None:
    loss = {"kind": "csft", "chosen_prefix": "yes ", "rejected_prefix": "no"}
    attempt = place.attempt("csft", loss=loss, **GREEDY)
    run_here(attempt)
    prompts = prompts_of(place)
    prefix = tuple(LETTERS[letter] for letter in "yes ")
    expected = generated_alone(place, [(*prompt.token_ids, *prefix) for prompt in prompts])
    groups = by_id(attempt)
    assert [groups[p.prompt_id].completions[0].token_ids for p in prompts] == expected
    assert [groups[p.prompt_id].prompt_token_ids for p in prompts] == [p.token_ids for p in prompts]


def test_progress_ends_at_every_completion(place: SamplePlace) -> None:
    attempt = place.attempt("progress")
    run_here(attempt)
    events = attempt_journal(attempt.events).read()
    last = [event for event in events if hasattr(event, "done")][-1]
    assert (last.done, last.total, last.unit) == (14, 14, "completions")


def test_a_completion_is_handed_out_at_the_step_that_finishes_it(place: SamplePlace) -> None:
    end_ids = ragged_end_ids(place)
    attempt = open_attempt(place.attempt("steps", **{**GREEDY, "stop_token_ids": end_ids[1:]}).path)
    engine = load_engine(str(place.policy), attempt.settings)
    requests = [Request(prompt.token_ids, seed=0) for prompt in prompts_of(place)]
    num_steps = 0

    def stepped() -> None:
        nonlocal num_steps
        num_steps += 1

    found = [(num_steps, *made) for made in engine.generate(requests, stepped=stepped)]
    assert sorted(position for _, position, _ in found) == list(range(len(requests)))
    assert all(step == len(made.token_ids) for step, _, made in found)
    assert len({step for step, _, _ in found}) >= 3


def test_progress_is_said_while_nothing_is_finished(
    place: SamplePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "PROGRESS_INTERVAL_S", 0.0)
    place.write_prompts(["the quick brown fox"])
    attempt = place.attempt("alive", **{**GREEDY, "max_new_tokens": 5})
    run_here(attempt)
    assert len(groups_of(attempt)[0].completions[0].token_ids) == 5
    events = attempt_journal(attempt.events).read()
    # before the first step, after each of five, and when the completion is there
    assert [event.done for event in events if hasattr(event, "done")] == [0] * 6 + [1]


def test_running_out_of_memory_names_the_settings_to_lower(
    place: SamplePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out")

    monkeypatch.setattr(TransformersEngine, "_forward", exhausted)
    attempt = place.attempt("memory")
    with pytest.raises(StageError, match=r"6 completions at a time: lower sample\.batch_size"):
        run_here(attempt)
    assert open_attempt(attempt.path).job.round == 1


def group_with(texts: Sequence[str], lengths: Sequence[int]) -> Group:
    completions = tuple(
        Completion(f"p.{k}", text, (5,) * length, "length" if length == 5 else "stop")
        for k, (text, length) in enumerate(zip(texts, lengths, strict=True))
    )
    return Group("p", ({"role": "user", "content": "x"},), (1,), 0, completions)


def test_summary_numbers_by_hand() -> None:
    tally = Tally(num_reused=2)
    tally.add(group_with(["a", "a"], [1, 2]))
    tally.start()
    tally.add(group_with(["a", "b"], [3, 5]))
    tally.stop()
    summary = tally.summary(elapsed_s=9.0).as_json()
    rate = summary.pop("tokens_per_s")
    assert rate > 0
    assert summary == {
        "num_prompts": 2,
        "num_completions": 4,
        "num_tokens": 11,
        "length_mean": 2.75,
        "length_q05": pytest.approx(1.15),  # lengths 1 2 3 5; position 3 * 0.05 = 0.15
        "length_q25": pytest.approx(1.75),
        "length_q50": pytest.approx(2.5),
        "length_q75": pytest.approx(3.5),
        "length_q95": pytest.approx(4.7),  # position 2.85: 3 + 0.85 * 2
        "truncated_frac": 0.25,
        "unique_frac": 0.75,
        "num_reused": 2,
        "elapsed_s": 9.0,
    }


def test_tokens_per_s_counts_only_what_was_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 104.0])
    monkeypatch.setattr("halos_backend.clock.monotonic", lambda: next(times))
    tally = Tally(num_reused=2)
    tally.add(group_with(["a", "a"], [1, 2]))
    tally.start()
    tally.add(group_with(["a", "b"], [3, 5]))
    tally.stop()
    assert tally.summary(elapsed_s=9.0).tokens_per_s == 2.0


def test_stage_summary_counts_what_is_in_the_file(place: SamplePlace) -> None:
    attempt = place.attempt("summary", group_size=3)
    summary = run_here(attempt).summary.as_json()
    rows = [c for group in groups_of(attempt) for c in group.completions]
    assert summary["num_prompts"] == 7
    assert summary["num_completions"] == len(rows) == 21
    assert summary["num_tokens"] == sum(len(c.token_ids) for c in rows)
    assert summary["truncated_frac"] == sum(c.finish_reason == "length" for c in rows) / 21
    assert summary["num_reused"] == 0

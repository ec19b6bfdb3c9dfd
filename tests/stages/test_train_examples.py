"""Which examples feedback becomes, and which of them share a step, a rank and a forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import StageError
from halos_backend.records import Completion, Group, PreferencePair, UnpairedFeedback
from halos_backend.stages.train.batches import (
    alone,
    example_length,
    microbatches,
    plan_steps,
    sequences_of,
    split_over_ranks,
)
from halos_backend.stages.train.examples import (
    Example,
    GroupedExample,
    PairedExample,
    TokenSequence,
    UnpairedExample,
    make_examples,
    read_examples,
)

from tests.support.train_fixtures import (
    BAD,
    GOOD,
    MESSAGES,
    groups,
    make_tokenizer,
    pairs,
    unpaired,
)


def loss(kind: str, **fields: Any) -> Any:
    return RunSettings.model_validate(
        {
            "policy": {"path": "p"},
            "prompts": {"path": "p"},
            "label": {
                "judge": {"kind": "function", "function": "f.py:f"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": kind, **fields}},
        }
    ).train.loss


def completion(*ids: int, reward: float | None = None) -> Completion:
    return Completion("c", "text", ids, "stop", reward)


PAIR = PreferencePair("p", MESSAGES, (10, 11), completion(20, 1), completion(30), 1.0, 0.0)
DESIRABLE = UnpairedFeedback("p", MESSAGES, (10,), completion(20, 1), True, 1.0)
UNDESIRABLE = UnpairedFeedback("p", MESSAGES, (10,), completion(30, 1), False, 0.0)


def test_pairs_keep_the_sampled_tokens() -> None:
    (example,) = make_examples([PAIR], loss("dpo")).examples
    expected = PairedExample(TokenSequence((10, 11), (20, 1)), TokenSequence((10, 11), (30,)))
    assert example == expected


def test_kto_unpacks_a_pair_into_a_desirable_and_an_undesirable_completion() -> None:
    assert make_examples([PAIR], loss("kto")).examples == (
        UnpairedExample(TokenSequence((10, 11), (20, 1)), True),
        UnpairedExample(TokenSequence((10, 11), (30,)), False),
    )


def test_sft_learns_from_chosen_and_desirable_completions_only() -> None:
    rows = [PAIR, DESIRABLE, UNDESIRABLE]
    assert make_examples(rows, loss("sft")).examples == (
        UnpairedExample(TokenSequence((10, 11), (20, 1)), True),
        UnpairedExample(TokenSequence((10,), (20, 1)), True),
    )


def test_csft_puts_the_control_text_before_each_completion() -> None:
    rows = [DESIRABLE, UNDESIRABLE]
    assert make_examples(rows, loss("csft"), make_tokenizer()).examples == (
        UnpairedExample(TokenSequence((10,), (GOOD, 20, 1)), True),
        UnpairedExample(TokenSequence((10,), (BAD, 30, 1)), False),
    )


def test_grpo_advantages_are_over_the_scored_completions_of_the_whole_group() -> None:
    group = Group(
        "p",
        MESSAGES,
        (10,),
        0,
        (
            completion(20, reward=1.0),
            completion(21, reward=None),
            completion(22, reward=3.0),
            completion(23, reward=5.0),
        ),
    )
    made = make_examples([group], loss("grpo", scale_advantages=False))
    assert made.num_unscored == 1
    assert made.examples == (
        GroupedExample(TokenSequence((10,), (20,)), 0, -2.0),
        GroupedExample(TokenSequence((10,), (22,)), 0, 0.0),
        GroupedExample(TokenSequence((10,), (23,)), 0, 2.0),
    )


def test_feedback_that_does_not_fit_the_loss_is_refused_by_name() -> None:
    with pytest.raises(StageError, match=r"dpo cannot learn from binary .* pairwise"):
        make_examples([DESIRABLE], loss("dpo"))
    with pytest.raises(StageError, match=r"kto cannot learn from scalar .* binary or pairwise"):
        make_examples(groups(1), loss("kto"))
    with pytest.raises(StageError, match=r"grpo cannot learn from pairwise .* scalar"):
        make_examples([PAIR], loss("grpo"))


def test_a_prompt_without_tokens_is_refused_by_its_id() -> None:
    row = UnpairedFeedback("p9", MESSAGES, (), completion(20), True, 1.0)
    with pytest.raises(StageError, match="prompt 'p9' has no tokens"):
        make_examples([row], loss("kto"))


def test_an_empty_feedback_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feedback.jsonl").touch()
    with pytest.raises(StageError, match="no feedback to train on"):
        read_examples(tmp_path / "feedback.jsonl", loss("dpo"), None)


def examples_of(rows: Any, kind: str) -> tuple[Example, ...]:
    return make_examples(rows, loss(kind)).examples


def test_each_epoch_takes_every_example_once_in_an_order_of_its_own() -> None:
    examples = examples_of(pairs(10), "dpo")
    steps = plan_steps(examples, batch_size=4, num_epochs=2, seed=5)
    assert [len(step.examples) for step in steps] == [4, 4, 2, 4, 4, 2]
    first = [e for step in steps[:3] for e in step.examples]
    second = [e for step in steps[3:] for e in step.examples]
    assert set(first) == set(second) == set(examples)
    assert first != second
    assert steps == plan_steps(examples, batch_size=4, num_epochs=2, seed=5)
    assert steps != plan_steps(examples, batch_size=4, num_epochs=2, seed=6)


def test_a_step_holds_whole_groups_only() -> None:
    examples = examples_of(groups(5, size=3), "grpo")
    steps = plan_steps(examples, batch_size=7, num_epochs=1, seed=0)
    assert [len(step.examples) for step in steps] == [6, 6, 3]
    members = [{e.group for e in step.examples if isinstance(e, GroupedExample)} for step in steps]
    assert [len(groups_of_step) for groups_of_step in members] == [2, 2, 1]
    assert set.union(*members) == {0, 1, 2, 3, 4}


def test_a_group_larger_than_the_batch_is_a_step_of_its_own() -> None:
    steps = plan_steps(examples_of(groups(2, size=4), "grpo"), batch_size=2, num_epochs=1, seed=0)
    assert [len(step.examples) for step in steps] == [4, 4]


def test_mismatched_pairs_are_each_prompt_with_the_next_completion_of_the_step() -> None:
    examples = examples_of(unpaired(5), "kto")
    steps = plan_steps(examples, batch_size=4, num_epochs=1, seed=0, with_mismatched=True)
    first, last = steps
    own = [example.sequences[0] for example in first.examples]
    assert [m.prompt for m in first.mismatched] == [s.prompt for s in own]
    shifted = [own[1], own[2], own[3], own[0]]
    assert [m.completion for m in first.mismatched] == [s.completion for s in shifted]
    # the last step has one example, which borrows the next step's first: the round's first
    assert last.mismatched == (
        TokenSequence(last.examples[0].sequences[0].prompt, own[0].completion),
    )


def with_prompts(prompts: str) -> list[UnpairedExample]:
    """An example for each letter, which names its prompt; completions are numbered."""
    return [
        UnpairedExample(TokenSequence((ord(letter),), (number,)), is_desirable=True)
        for number, letter in enumerate(prompts)
    ]


@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_a_mismatched_completion_is_of_another_prompt(batch_size: int) -> None:
    examples = with_prompts("aaaaaaaabbbbbbbbccccccccdddddddd")
    prompt_of = {e.sequence.completion: e.sequence.prompt for e in examples}
    steps = plan_steps(examples, batch_size=batch_size, num_epochs=2, seed=0, with_mismatched=True)
    for step in steps:
        assert [m.prompt for m in step.mismatched] == [s.prompt for s in step.sequences]
        assert all(prompt_of[m.completion] != m.prompt for m in step.mismatched)
        if len({sequence.prompt for sequence in step.sequences}) > 1:
            here = {sequence.completion for sequence in step.sequences}
            assert here >= {m.completion for m in step.mismatched}


def test_it_is_the_next_ones_of_another_prompt_and_of_a_step_with_one_prompt_the_next_steps() -> (
    None
):
    steps = plan_steps(with_prompts("ab"), batch_size=1, num_epochs=1, seed=0, with_mismatched=True)
    (first,), (second,) = (step.mismatched for step in steps)
    assert {first.completion, second.completion} == {(0,), (1,)}
    assert first.prompt != second.prompt
    assert all(m.prompt == (ord("ba"[m.completion[0]]),) for m in (first, second))

    (step,) = plan_steps(
        with_prompts("aaab"), batch_size=4, num_epochs=1, seed=3, with_mismatched=True
    )
    order = [sequence.completion[0] for sequence in step.sequences]
    following = order[order.index(3) + 1 :] + order[: order.index(3)]
    expected = [(following[0] if number == 3 else 3) for number in order]
    assert [m.completion[0] for m in step.mismatched] == expected


def test_a_round_of_one_prompt_takes_the_next_completion() -> None:
    (step,) = plan_steps(with_prompts("aaa"), batch_size=4, num_epochs=1, seed=0,
                         with_mismatched=True)  # fmt: skip
    order = [sequence.completion for sequence in step.sequences]
    assert [m.completion for m in step.mismatched] == [*order[1:], order[0]]
    (alone,) = plan_steps(with_prompts("a"), batch_size=4, num_epochs=1, seed=0,
                          with_mismatched=True)  # fmt: skip
    assert [m.completion for m in alone.mismatched] == [(0,)]


def test_ranks_share_a_step_without_loss_or_repetition() -> None:
    examples = examples_of(pairs(7), "dpo")
    shares = [
        split_over_ranks(examples, num_ranks=3, rank=rank, length=example_length)
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert {e for share in shares for e in share} == set(examples)


def rows_of(count: int) -> Any:
    """An item is so many sequences of as many tokens as its number."""
    return lambda item: [TokenSequence((7,), (7,) * (item - 1))] * count


def test_microbatches_stay_within_the_token_budget_and_start_with_the_longest() -> None:
    lengths = [9, 7, 7, 4, 2, 2, 1]
    made = microbatches(lengths, max_tokens=14, sequences=rows_of(1))
    assert made == [[9], [7, 7], [4, 2, 2], [1]]
    over = microbatches([50, 1], max_tokens=14, sequences=rows_of(1))
    assert over == [[50], [1]]
    paired = microbatches(lengths, max_tokens=28, sequences=rows_of(2))
    assert paired == [[9], [7, 7], [4, 2, 2], [1]]


def test_packed_microbatches_count_no_padding_and_a_prompt_once() -> None:
    def sequence(prompt: int, num_tokens: int) -> TokenSequence:
        return TokenSequence((prompt,) * 3, (9,) * num_tokens)

    rows = [sequence(5, 6), sequence(6, 4), sequence(5, 3), sequence(7, 1), sequence(6, 1)]
    made = microbatches(rows, max_tokens=12, sequences=alone, packs=True)
    assert made == [[rows[0], rows[2]], [rows[1], rows[4], rows[3]]]
    tight = microbatches(rows, max_tokens=11, sequences=alone, packs=True)
    assert tight == [[rows[0]], [rows[2]], [rows[1], rows[4]], [rows[3]]]

    pairs = [PairedExample(sequence(n, 4), sequence(n, 2)) for n in (5, 6)]
    assert microbatches(pairs, max_tokens=18, sequences=sequences_of, packs=True) == [pairs]
    assert len(microbatches(pairs, max_tokens=17, sequences=sequences_of, packs=True)) == 2

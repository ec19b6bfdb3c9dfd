"""The function judge and the course of the stage, in this process and as a real program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import StageError, UsageError
from halos_backend.events import PhaseChanged, Progressed
from halos_backend.records import Feedback, PreferencePair, read_rows
from halos_backend.stages.label.function import check_function
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.run_dir import AttemptDir

from tests.support.label_fixtures import (
    completion,
    done_summary,
    events,
    failures,
    function_judge,
    group,
    label,
    make_attempt,
    ragged_groups,
    reasons_of,
    rewards_of,
    run_stage_process,
    scores,
    stage_environment,
    warnings,
)

COUNT_WORDS = "def judge(prompt, completion, row):\n    return len(completion.split())\n"


def judge_file(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "my_judge.py"
    path.write_text(source)
    return path


def label_texts(tmp_path: Path, source: str, texts: list[str], **settings: Any) -> Path:
    """Label one prompt's completions with these texts by this judge."""
    completions = [completion(f"c{index}", text) for index, text in enumerate(texts)]
    path = make_attempt(
        tmp_path / "attempt",
        [group("p", completions)],
        function_judge(judge_file(tmp_path, source)),
        **settings,
    )
    label(path)
    return path


def test_judge_sees_prompt_completion_and_the_rows_columns(tmp_path: Path) -> None:
    source = (
        "def judge(prompt, completion, row):\n"
        "    assert prompt == [{'role': 'user', 'content': 'w5'}]\n"
        "    return float(completion == row['answer'])\n"
    )
    groups = [
        group(
            "p",
            [completion("a", "w1 w2"), completion("b", "w3")],
            content="w5",
            columns={"answer": "w3"},
        )
    ]
    judge = function_judge(judge_file(tmp_path, source))
    path = make_attempt(tmp_path / "attempt", groups, judge)
    label(path)
    assert rewards_of(path) == [0.0, 1.0]
    assert scores(path)[0].columns == {"answer": "w3"}


def test_judge_cannot_change_what_the_next_call_sees(tmp_path: Path) -> None:
    source = (
        "def judge(prompt, completion, row):\n"
        "    prompt.append('more')\n"
        "    row['seen'].append(1)\n"
        "    return len(prompt) + 10 * len(row['seen'])\n"
    )
    groups = [group("p", [completion("a", "w"), completion("b", "w")], columns={"seen": []})]
    path = make_attempt(tmp_path / "attempt", groups, function_judge(judge_file(tmp_path, source)))
    label(path)
    assert rewards_of(path) == [12.0, 12.0]
    assert scores(path)[0].columns == {"seen": []}


def test_what_is_no_number_is_unscored_with_its_reason(tmp_path: Path) -> None:
    source = """
import numpy
def judge(prompt, completion, row):
    return {"true": True, "int": 3, "numpy": numpy.float32(0.5), "none": None, "text": "7",
            "nan": float("nan"), "inf": float("-inf"), "huge": 1e39, "big": 10 ** 400,
            "list": [1.0]}[completion]
"""
    texts = ["true", "int", "numpy", "none", "text", "nan", "inf", "huge", "big", "list", "oops"]
    path = label_texts(tmp_path, source, texts)
    assert rewards_of(path) == [1.0, 3.0, 0.5, *[None] * 8]
    assert reasons_of(path)[3:] == [
        "judge returned None",
        "judge returned str",
        "reward is nan",
        "reward is inf",
        "reward is inf",
        "reward is inf",
        "judge returned list",
        "judge raised KeyError: 'oops'",
    ]


def test_one_warning_counts_the_unscored(tmp_path: Path) -> None:
    source = (
        "def judge(prompt, completion, row):\n"
        "    if completion == 'bad':\n"
        "        raise ValueError('no\\nnumber ' + 'x' * 500)\n"
        "    return None if completion == 'none' else len(completion)\n"
    )
    path = label_texts(tmp_path, source, ["bad", "fine", "none", "bad", "w"])
    (warning,) = warnings(path)
    assert warning.startswith("label.judge.function = '")
    assert "my_judge.py:judge': 3 of 5 completions are unscored: judge raised ValueError" in warning
    assert "(2), judge returned None (1)" in warning
    assert max(len(reason) for reason in reasons_of(path) if reason) == 200


def test_only_the_first_traceback_goes_to_the_log(tmp_path: Path) -> None:
    source = "def judge(prompt, completion, row):\n    return 1 / int(completion)\n"
    path = label_texts(tmp_path, source, ["0", "0", "1"])
    log = AttemptDir(path).log.read_text()
    assert log.count("Traceback") == 1
    assert "c0" in log
    assert "ZeroDivisionError" in log


def test_a_judge_that_always_fails_fails_the_stage_by_name(tmp_path: Path) -> None:
    source = "def judge(prompt, completion, row):\n    return row['answer']\n"
    wanted = r"judge\.py:judge' scored none of 2 .*KeyError.*\(2 ti"
    with pytest.raises(StageError, match=wanted) as said:
        label_texts(tmp_path, source, ["a", "b"])
    assert str(said.value).endswith("Mend it, then: halos-tui resume run"), "a whole command"


def test_a_judge_that_declines_everything_leaves_no_feedback_and_succeeds(tmp_path: Path) -> None:
    source = "def judge(prompt, completion, row):\n    return None\n"
    path = make_attempt(
        tmp_path / "attempt",
        ragged_groups(2, 2),
        function_judge(judge_file(tmp_path, source)),
    )
    assert run_stage_process(path) == 0
    summary = done_summary(path)
    assert (summary["num_unscored"], summary["unscored_frac"]) == (4, 1.0)
    assert summary["unscored_reasons"] == {"judge returned None": 4}
    assert summary["reward_mean"] is None
    assert summary["reward_histogram"] is None
    assert summary["num_feedback"] == 0


@pytest.mark.parametrize("feedback", ["pairwise", "binary", "scalar"])
def test_equal_rewards_leave_no_feedback_a_warning_and_success(
    tmp_path: Path, feedback: str
) -> None:
    source = "def judge(prompt, completion, row):\n    return 1\n"
    path = label_texts(tmp_path, source, ["a", "b"], feedback={"kind": feedback})
    assert AttemptDir(path).feedback.read_bytes() == b""
    (warning,) = warnings(path)
    assert warning.startswith("no feedback is left: all")
    assert rewards_of(path) == [1.0, 1.0]


def test_binary_feedback_of_one_kind_only_is_warned_of(tmp_path: Path) -> None:
    path = label_texts(tmp_path, COUNT_WORDS, ["a", "a", "a", "a b"], feedback={"kind": "binary"})
    assert warnings(path) == ["all 4 completions are desirable by label.feedback.threshold"]


def test_a_stage_as_a_program_leaves_scores_feedback_and_done(tmp_path: Path) -> None:
    groups = ragged_groups(3, 4)
    path = make_attempt(
        tmp_path / "attempt", groups, function_judge(judge_file(tmp_path, COUNT_WORDS))
    )
    assert run_stage_process(path) == 0
    expected = [float(len(entry.text.split())) for row in groups for entry in row.completions]
    assert rewards_of(path) == expected
    assert [row.prompt_id for row in scores(path)] == ["p0", "p1", "p2"]
    manifest = read_done(path)
    assert manifest is not None
    assert [entry.name for entry in manifest.files] == ["scores.jsonl", "feedback.jsonl"]
    assert find_damage(path, manifest, full=True) is None
    pairs = list(read_rows(AttemptDir(path).feedback, Feedback))
    assert all(isinstance(pair, PreferencePair) for pair in pairs)
    # Lengths per group: 1 6 11 16, 8 13 18 23, 15 20 25 30; best minus worst is 15 in each.
    summary = done_summary(path)
    assert summary["reward_mean"] == sum(expected) / 12
    # the groups' means are 8.5, 15.5 and 22.5: 7 / sqrt(3)
    assert summary["reward_stderr"] == pytest.approx(7 / 3**0.5)
    assert summary["reward_change_stderrs"] == []
    assert summary["margin_mean"] == 15.0
    assert (summary["num_feedback"], summary["num_pairs_kept"], len(pairs)) == (3, 3, 3)
    assert summary["reward_length_corr"] == pytest.approx(1.0)
    assert set(summary) == {
        "num_completions", "num_unscored", "unscored_frac", "unscored_reasons", "reward_mean",
        "reward_std", "reward_stderr", "reward_change_stderrs",
        "reward_min", "reward_max", "reward_q05", "reward_q25", "reward_q50", "reward_q75",
        "reward_q95", "reward_histogram", "reward_length_corr", "num_feedback", "num_pairs_kept",
        "num_pairs_dropped", "margin_mean", "num_desirable", "num_equal_groups",
        "num_cut_off", "host_own_peak_memory_bytes", "elapsed_s",
    }  # fmt: skip
    phases = [event.phase for event in events(path) if isinstance(event, PhaseChanged)]
    assert phases[:3] == ["loading judge", "scoring", "making feedback"]
    progress = [event for event in events(path) if isinstance(event, Progressed)]
    assert (progress[-1].done, progress[-1].total, progress[-1].unit) == (12, 12, "completions")


def test_what_only_scores_the_result_makes_no_feedback(tmp_path: Path) -> None:
    path = label_texts(tmp_path, COUNT_WORDS, ["one", "one two"], wants_feedback=False)
    assert rewards_of(path) == [1.0, 2.0]
    assert AttemptDir(path).feedback.read_bytes() == b""
    assert warnings(path) == []


def test_a_function_judge_waits_for_no_torch() -> None:
    code = (
        "import sys, halos_backend.stages.label.stage;"
        "print(sorted({'torch', 'transformers', 'accelerate', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=stage_environment(), check=True
    )
    assert done.stdout.decode().strip() == "[]"


DIES_AT_SEVEN = """
import os, pathlib, signal
here = pathlib.Path(__file__).parent
def judge(prompt, completion, row):
    with open(here / "calls", "a") as calls:
        calls.write(".")
    calls = (here / "calls").stat().st_size
    if calls == 7 and not (here / "survive").exists():
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return len(completion) / 7
"""


def test_a_killed_stage_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    groups = ragged_groups(5, 3)
    judge = function_judge(judge_file(tmp_path, DIES_AT_SEVEN))
    feedback = {"kind": "pairwise", "pairing": "random"}
    first = make_attempt(tmp_path / "first", groups, judge, feedback=feedback)
    assert run_stage_process(first) == -signal.SIGKILL
    assert read_done(first) is None
    second = make_attempt(tmp_path / "second", groups, judge, feedback=feedback, earlier=[first])
    (tmp_path / "survive").touch()
    (tmp_path / "calls").unlink()
    label(second)
    assert (tmp_path / "calls").stat().st_size == 15 - 6
    whole = make_attempt(tmp_path / "whole", groups, judge, feedback=feedback)
    label(whole)
    for name in ("scores.jsonl", "feedback.jsonl", "rewards.jsonl"):
        assert (second / name).read_bytes() == (whole / name).read_bytes()


def test_a_mended_judge_judges_everything_again(tmp_path: Path) -> None:
    source = "def judge(prompt, completion, row):\n    return 1 if completion == 'a' else 2\n"
    first = label_texts(tmp_path, source, ["a", "b"])
    judge_file(tmp_path, source.replace("2", "5"))
    groups = [group("p", [completion("c0", "a"), completion("c1", "b")])]
    judge = function_judge(tmp_path / "my_judge.py")
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second)
    assert rewards_of(second) == [1.0, 5.0]


def test_rewards_of_other_completions_are_not_taken_over(tmp_path: Path) -> None:
    first = label_texts(tmp_path, COUNT_WORDS, ["a", "b b"])
    groups = [group("p", [completion("c0", "a a a"), completion("c1", "b b")])]
    judge = function_judge(tmp_path / "my_judge.py")
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second)
    assert rewards_of(second) == [3.0, 2.0]


@pytest.mark.parametrize("damage", [b"", b'{"type":"hea', b"\x00\x00\n", b"{}\n", b'{"type":1}\n'])
def test_a_damaged_ledger_is_no_hindrance(tmp_path: Path, damage: bytes) -> None:
    first = label_texts(tmp_path, COUNT_WORDS, ["a", "b b"])
    AttemptDir(first).rewards.write_bytes(damage)
    groups = [group("p", [completion("c0", "a"), completion("c1", "b b")])]
    judge = function_judge(tmp_path / "my_judge.py")
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second)
    assert rewards_of(second) == [1.0, 2.0]


def test_unscored_completions_are_judged_again_by_a_later_attempt(tmp_path: Path) -> None:
    source = (
        "import pathlib\n"
        "def judge(prompt, completion, row):\n"
        "    if completion == 'b' and not (pathlib.Path(__file__).parent / 'up').exists():\n"
        "        raise ConnectionError('down')\n"
        "    return 4\n"
    )
    first = label_texts(tmp_path, source, ["a", "b"])
    assert rewards_of(first) == [4.0, None]
    (tmp_path / "up").touch()
    groups = [group("p", [completion("c0", "a"), completion("c1", "b")])]
    judge = function_judge(tmp_path / "my_judge.py")
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second)
    assert rewards_of(second) == [4.0, 4.0]


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("def judge(): pass", "reward", "my_judge.py has no reward; define"),
        ("judge = 3", "judge", "my_judge.py is not a function: judge; define"),
        ("import no_such_module_here", "judge", "ModuleNotFoundError: No module named"),
        ("def judge(:", "judge", "SyntaxError"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_named(
    tmp_path: Path, source: str, name: str, reason: str
) -> None:
    path = judge_file(tmp_path, source)
    with pytest.raises(UsageError) as raised:
        check_function(f"{path}:{name}", os.environ, python=None)
    assert str(raised.value).startswith("label.judge.function = ")
    assert f"{path}:{name}" in str(raised.value)
    assert reason in str(raised.value)


def test_a_missing_file_ends_the_program_with_a_clear_word(tmp_path: Path) -> None:
    path = make_attempt(
        tmp_path / "attempt", ragged_groups(1, 2), function_judge(tmp_path / "nowhere.py")
    )
    assert run_stage_process(path) == 2
    (reason,) = failures(path)
    assert "there is no file" in reason
    assert b"Traceback" not in AttemptDir(path).log.read_bytes()


def test_a_judge_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_judge.py").write_text("WORTH = 6\n")
    source = "from neighbour_of_judge import WORTH\ndef judge(p, c, r):\n    return WORTH\n"
    path = label_texts(tmp_path, source, ["a"])
    assert rewards_of(path) == [6.0]


def test_missing_completions_are_named(tmp_path: Path) -> None:
    judge = function_judge(judge_file(tmp_path, COUNT_WORDS))
    path = make_attempt(tmp_path / "attempt", ragged_groups(1, 2), judge)
    (tmp_path / "completions.jsonl").unlink()
    with pytest.raises(StageError, match=r"completions\.jsonl does not exist"):
        label(path)


def test_twice_the_same_completion_id_is_refused(tmp_path: Path) -> None:
    judge = function_judge(judge_file(tmp_path, COUNT_WORDS))
    groups = [group("p", [completion("c", "a"), completion("c", "b")])]
    with pytest.raises(StageError, match="occurs twice"):
        label(make_attempt(tmp_path / "attempt", groups, judge))


def test_more_processes_than_started_are_refused(tmp_path: Path) -> None:
    judge = function_judge(judge_file(tmp_path, COUNT_WORDS))
    path = make_attempt(tmp_path / "attempt", ragged_groups(1, 2), judge, num_processes=2)
    with pytest.raises(StageError, match=r"as 2 processes .* runs as 1: start it with torchrun"):
        label(path)

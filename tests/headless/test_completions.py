"""`completions`: what the policy said in a round, and what it was worth."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from halos_backend.records import write_rows
from halos_backend.store.own_words import toggle_marks, write_note

from tests.headless.conftest import Halos
from tests.support.made_run import GROUPS, MadeRun, completion, write_round_files


def _labelled(runs: Path, feedback: str = "pairwise") -> MadeRun:
    run = MadeRun(runs, feedback=feedback, loss="kto" if feedback == "binary" else "dpo")
    run.whole_round(1)
    write_round_files(run, 1, feedback)
    return run


def test_text_shows_prompt_reward_and_what_the_feedback_chose(halos: Halos, runs: Path) -> None:
    _labelled(runs)
    shown = halos("completions", "a-run")
    assert shown.stdout.splitlines() == [
        "",
        "prompt beta: Say hello.",
        "  [reward 0.25, 1 token]  REJECTED",
        "    hello",
        "  [reward 0.75, 3 tokens]  CHOSEN",
        "    hello there you",
        "",
        "prompt alpha: What is 1 + 1?",
        "  [reward 1, 1 token]",
        "    two",
        "  [unscored (the judge said no), 3 tokens, cut off]",
        "    three or so",
    ]
    assert "4 completions" in shown.stderr


def test_json_has_every_completion_as_a_row(halos: Halos, runs: Path) -> None:
    _labelled(runs, "binary")
    rows = [
        json.loads(line) for line in halos("completions", "a-run", "--json").stdout.splitlines()
    ]
    assert [row["mark"] for row in rows] == ["undesirable", "desirable", None, None]
    assert rows[3] == {
        "round": 1,
        "prompt_id": "alpha",
        "completion_id": "c1",
        "reward": None,
        "unscored": "the judge said no",
        "penalty": None,
        "components": {},
        "mark": None,
        "marked": False,
        "note": None,
        "finish_reason": "length",
        "num_tokens": 3,
        "prompt": [{"role": "user", "content": "What is 1 + 1?"}],
        "text": "three or so",
    }


def test_sorted_by_reward_the_best_is_first_and_the_unscored_last(halos: Halos, runs: Path) -> None:
    _labelled(runs)
    sorted_rows = halos("completions", "a-run", "--sort", "reward", "--json").stdout.splitlines()
    assert [json.loads(line)["reward"] for line in sorted_rows] == [1.0, 0.75, 0.25, None]
    longest = halos("completions", "a-run", "--sort", "length", "--limit", "1", "--json").stdout
    assert json.loads(longest)["text"] == "hello there you"


def test_what_is_left_out_is_counted(halos: Halos, runs: Path) -> None:
    _labelled(runs)
    shown = halos("completions", "a-run", "--limit", "1")
    assert "hello there" not in shown.stdout
    assert "3 more" in shown.stderr


def test_escape_sequences_in_a_completion_are_shown_not_sent(halos: Halos, runs: Path) -> None:
    run = _labelled(runs)
    evil = msgspec.structs.replace(
        GROUPS[0], completions=(completion(0, "a\n\x1b]52;c;eA==\x07\u202eb", 1.0),)
    )
    write_rows(run.dir.attempt(1, "label", 1).scores, [evil])
    shown = halos("completions", "a-run").stdout
    assert "    a\n    \\x1b]52;c;eA==\\x07\\u202eb\n" in shown
    assert "\x1b" not in shown


def test_a_round_that_is_being_sampled_shows_what_is_there(halos: Halos, runs: Path) -> None:
    run = _labelled(runs)
    run.start_round(2)
    attempt = run.start_stage(2, "sample")
    rows = run.dir.attempt(1, "sample", 1).completions.read_bytes()
    first, second = rows.splitlines(keepends=True)
    attempt.completions.write_bytes(first + second[:-10])  # the second group is being written
    shown = halos("completions", "a-run", "--json").stdout.splitlines()
    assert [json.loads(line)["round"] for line in shown] == [2, 2]
    assert json.loads(shown[0])["reward"] is None
    assert len(halos("completions", "a-run", "--round", "1", "--json").stdout.splitlines()) == 4


def test_a_round_that_is_not_there_is_refused(halos: Halos, runs: Path) -> None:
    _labelled(runs)
    refused = halos("completions", "a-run", "--round", "7")
    assert refused.returncode == 2
    assert "no round 7" in refused.stderr
    MadeRun(runs, "empty")
    assert "not sampled anything yet" in halos("completions", "empty").stderr


def test_a_filter_is_that_of_the_screen(halos: Halos, runs: Path) -> None:
    run = _labelled(runs)
    run.whole_round(2)
    write_round_files(run, 2)
    shown = halos("completions", "a-run", "--filter", "chosen:")
    assert shown.stdout.splitlines() == [
        "",
        "prompt beta: Say hello.",
        "  [reward 0.75, 3 tokens]  CHOSEN",
        "    hello there you",
    ]
    assert "round 2, by the policy before its training: 1 completion\n" in shown.stderr
    rows = halos("completions", "a-run", "--filter", "round:1 reward<0.5", "--json").stdout
    assert [json.loads(row)["round"] for row in rows.splitlines()] == [1]
    of_both = halos("completions", "a-run", "--filter", "round>=1 rejected:")
    assert "round 1, prompt beta: Say hello." in of_both.stdout
    assert "all rounds: 2 completions" in of_both.stderr
    refused = halos("completions", "a-run", "--filter", "rewards<0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean reward?" in refused.stderr


def test_own_marks_and_notes_are_rows_and_damage_is_said(halos: Halos, runs: Path) -> None:
    run = _labelled(runs)
    toggle_marks(run.dir, [(1, "beta", "c0")])
    write_note(run.dir, [(1, "beta", "c0"), (1, "alpha", "c1")], "look again")
    rows = [
        json.loads(line) for line in halos("completions", "a-run", "--json").stdout.splitlines()
    ]
    assert [(row["marked"], row["note"]) for row in rows] == [
        (True, "look again"),
        (False, None),
        (False, None),
        (False, "look again"),
    ]
    with run.dir.own_marks.open("ab") as file:
        file.write(b"rubbish\n")
    shown = halos("completions", "a-run", "--filter", "marked:")
    assert shown.stdout.splitlines()[2:] == [
        "  [reward 0.25, 1 token]  REJECTED  MARKED",
        "  note: look again",
        "    hello",
    ]
    assert "left out: " in shown.stderr
    assert "own_marks.jsonl, line 3: " in shown.stderr

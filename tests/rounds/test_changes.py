"""Settings changed between rounds: real training in exactly the named round, and on record."""

from __future__ import annotations

import json
from typing import Any

from tests.support.place import Place


def steps(place: Place, run: str, round: int) -> list[dict[str, float]]:
    """The metrics of each optimizer step of a round."""
    path = place.runs / run / "rounds" / f"{round:04d}" / "train" / "attempt_1" / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    logged = [event["metrics"] for event in events if event["type"] == "MetricsLogged"]
    return [metrics for metrics in logged if "loss" in metrics]


def settings(place: Place, run: str, round: int) -> dict[str, Any]:
    path = place.runs / run / "rounds" / f"{round:04d}" / "settings.json"
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def test_learning_rate_beta_and_group_size_change_in_the_named_round(
    place: Place, paused: Place
) -> None:
    place.take("paused", of=paused)

    change = place.halos(
        "set", "paused", "train.lr=5e-4", "train.loss.beta=0.3", "sample.group_size=6"
    )
    assert change.code == 0, change.stderr
    later = place.halos("set", "paused", "train.lr=2e-4", "--from-round", "3")
    assert later.code == 0, later.stderr
    assert place.halos("resume", "paused", "--no-ui").code == 6
    assert place.halos("resume", "paused", "--no-ui").code == 0

    for round, lr, beta, group_size in ((1, 1e-3, 0.1, 4), (2, 5e-4, 0.3, 6), (3, 2e-4, 0.3, 6)):
        metrics = steps(place, "paused", round)
        assert len(metrics) > 0
        assert {step["lr"] for step in metrics} == {lr}, "from the first step to the last"
        assert {step["beta"] for step in metrics} == {beta}
        assert settings(place, "paused", round)["sample"]["group_size"] == group_size
        sampled = place.runs / "paused" / "rounds" / f"{round:04d}" / "sample/attempt_1"
        groups = [json.loads(x) for x in (sampled / "completions.jsonl").read_text().splitlines()]
        assert {len(group["completions"]) for group in groups} == {group_size}


def test_the_loss_and_its_feedback_change_between_rounds(place: Place, paused: Place) -> None:
    place.take("paused", of=paused)

    alone = place.halos("set", "paused", "train.loss.kind=grpo")
    assert alone.code == 2
    assert "label.feedback.kind" in alone.stderr
    change = place.halos(
        "set", "paused", "train.loss.kind=grpo", "label.feedback.kind=scalar", "train.batch_size=8"
    )
    assert change.code == 0, change.stderr
    assert "optimizer" in change.stdout + change.stderr
    assert place.halos("resume", "paused", "--no-ui").code == 6

    trained = next(
        event["summary"]
        for event in place.events("paused")
        if event["type"] == "StageFinished" and (event["round"], event["stage"]) == (2, "train")
    )
    assert trained["optimizer"].startswith("reset: ")
    assert settings(place, "paused", 1)["train"]["loss"]["kind"] == "dpo"
    assert settings(place, "paused", 2)["train"]["loss"]["kind"] == "grpo"


def test_more_prompts_a_round_and_more_rounds_take_every_prompt_once(
    place: Place, paused: Place
) -> None:
    place.take("paused", of=paused)
    assert place.halos("set", "paused", "loop.prompts_per_round=5", "loop.num_rounds=2").code == 0
    assert place.halos("resume", "paused", "--no-ui").code == 0

    extended = place.halos("extend", "paused", "--rounds", "1", "--no-ui")
    assert extended.code == 0, extended.stderr

    used = []
    for path in sorted((place.runs / "paused").glob("rounds/*/sample/attempt_1/completions.jsonl")):
        used.append([json.loads(line)["prompt_id"] for line in path.read_text().splitlines()])
    assert [len(ids) for ids in used] == [6, 5, 5]
    flat = [prompt for ids in used for prompt in ids]
    assert len(set(flat)) == len(flat)

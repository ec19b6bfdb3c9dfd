"""A whole run whose trainer is divided over two processes, warm stages beside it."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from tests.support.place import Place


@pytest.mark.slow
def test_a_sharded_run_ends_in_a_plain_checkpoint(place: Place) -> None:
    config = place.config(
        launch__num_processes=2,
        launch__sharding="fsdp2",
        launch__warm_workers=True,
        train__keep_optimizer=True,
    )
    ended = place.halos("run", str(config), "--no-ui", "--name", "sharded")
    assert ended.code == 0, ended.stderr
    finished = [
        event["summary"]
        for event in place.events("sharded")
        if event["type"] == "StageFinished" and event["stage"] == "train"
    ]
    assert [summary["optimizer"] for summary in finished] == ["new", "kept"]
    policy = AutoModelForCausalLM.from_pretrained(place.runs / "sharded" / "final")
    assert type(policy).__name__ == "LlamaForCausalLM"


def test_sharding_one_process_is_refused_before_anything_starts(place: Place) -> None:
    config = place.config(launch__sharding="fsdp2")
    ended = place.halos("run", str(config), "--no-ui", "--name", "alone")
    assert ended.code == 2
    assert "launch.num_processes is 1: write 2 or more there" in ended.stderr
    assert not (place.runs / "alone").exists()

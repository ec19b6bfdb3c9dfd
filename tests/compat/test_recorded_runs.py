"""A run directory of version 0.1.0 opens, goes on and forks as it did with that version."""

from __future__ import annotations

import asyncio
import json
import re
import tarfile
from pathlib import Path

import msgspec
import pytest
import torch
import transformers
from halos_backend.events import run_event_decoder
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import load_state, read_snapshot
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from safetensors.torch import load_file

from halos_tui.app import AppOptions, HalosApp
from tests.support.app_fixtures import until_shown
from tests.support.forks import forking_python
from tests.support.place import Place

ARCHIVE = Path(__file__).with_name("recorded-0.1.0.tar.xz")
MADE_IN = "/tmp/halos-tui-recorded"
MADE_BY = ("2.13.0+cpu", "5.23.0", "AVX512", ["GenuineIntel", "6", "167"])
RUN = "recorded"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The recorded run beside its policy, judge and prompts, as if it had been made there.

    The programs of the place begin with their libraries imported.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    run_dir = RunDir(tmp_path / "runs" / RUN)
    for path in run_dir.path.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".toml"):
            path.write_text(path.read_text().replace(MADE_IN, str(tmp_path)))
    offset = f'"offset":{run_dir.events.stat().st_size},'  # the whole journal, which is longer now
    run_dir.state.write_text(re.sub(r'"offset":\d+,', offset, run_dir.state.read_text(), count=1))
    return Place(tmp_path, forking_python())


def platform() -> tuple[str, str, str, list[str]]:
    """All that the bits of a result are known to depend on, besides the run."""
    cpu = re.findall(
        r"^(?:vendor_id|cpu family|model)\s+: (.+)$", Path("/proc/cpuinfo").read_text(), re.M
    )
    capability = torch.backends.cpu.get_cpu_capability()
    return torch.__version__, transformers.__version__, capability, cpu[:3]


def assert_same_weights(ours: Path, theirs: Path, place: Place) -> None:
    """The same bits where the recorded run was made; elsewhere within a hundredth of the training.

    Another CPU or another torch rounds differently, so that only the machine that made the
    recorded weights can be asked for their bits.
    """
    if platform() == MADE_BY:
        assert ours.read_bytes() == theirs.read_bytes()
    initial, *results = (
        torch.cat([tensor.flatten() for _, tensor in sorted(load_file(path).items())])
        for path in (place.path / "policy" / "model.safetensors", theirs, ours)
    )
    trained, difference = results[0] - initial, results[1] - results[0]
    assert difference.norm() < 0.01 * trained.norm()


def test_the_journal_is_written_as_it_was_recorded(place: Place) -> None:
    lines = RunDir(place.path / "runs" / RUN).events.read_bytes().splitlines()

    written = [msgspec.json.encode(run_event_decoder.decode(line)) for line in lines]

    assert {b"PauseRequested", b"RunResumed"} <= {line.split(b'"')[3] for line in lines}
    assert written == lines


@pytest.mark.parametrize(
    ("verb", "shown"),
    [
        (("list",), r"recorded +paused +2/4 +- +0\.113"),
        (("status", RUN), r"paused: by its owner, after round 2[^$]*round 2 of 4, 8 of 20 prompts"),
        (("completions", RUN, "--round", "1", "--limit", "1"), "CHOSEN\n    g w e e v n a q"),
        (("logs", RUN), "train of round 2, attempt 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_verbs_read_the_recorded_run(place: Place, verb: tuple[str, ...], shown: str) -> None:
    done = place.halos(*verb)

    assert done.code == 0, done.stderr
    assert re.search(shown, done.stdout + done.stderr)


def test_exports_have_the_rows_of_the_recorded_run(place: Place) -> None:
    made = place.path / "exported"

    done = place.halos("export", RUN, "--to", "trl", "--output", str(made))

    assert done.code == 0, done.stderr
    pairs = [
        json.loads(line)
        for path in sorted(made.rglob("*preference*"))
        for line in path.read_text().splitlines()
    ]
    # one pair of each of four prompts, in both rounds
    assert len(pairs) == 8
    assert "g w e e v n a q" in json.dumps(pairs)


def test_the_snapshot_says_what_the_journal_says(place: Place) -> None:
    run_dir = RunDir(place.runs / RUN)
    snapshot = read_snapshot(run_dir)
    assert snapshot is not None

    assert snapshot.state == fold(run_journal(run_dir.events).read())


def test_the_state_has_what_happened(place: Place) -> None:
    state = load_state(RunDir(place.runs / RUN))

    assert (state.status, state.reason) == ("paused", "by its owner, after round 2")
    assert [round.stages["label"].attempt for round in state.rounds] == [2, 1]
    assert [round.settings["train"]["lr"] for round in state.rounds] == [1e-3, 5e-4]
    assert [round.settings["sample"]["group_size"] for round in state.rounds] == [4, 6]
    # 27 vowels in the 24 completions of round 2, a tenth each
    assert state.rounds[1].metrics["reward_mean"] == pytest.approx(2.7 / 24)


def test_every_screen_opens_the_recorded_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.path / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    app = HalosApp(AppOptions(place.runs), run=RunDir(place.runs / RUN))
    screens = {
        "c": ("round 2 of 2", "1 of 24", "rejected", "a n x a a"),
        "m": ("label.reward_mean", "0.113", "train.kl_initial", "0.000374"),
        "h": ("1 of 3 changes", "train.loss.beta 0.1 -> 0.3", "set by owner@box", "reward +0.012"),
        "l": ("train of round 2", "nothing was printed"),
    }

    async def look() -> None:
        async with app.run_test(size=(160, 50)) as pilot:
            run = ("by its owner, after round 2", "0.692", "+0.012 ±0.037", "3.74/23.5 GiB")
            await until_shown(pilot, *run, "guard reward: reward_mean")
            for key, shown in screens.items():
                await pilot.press(key)
                await until_shown(pilot, *shown)
                await pilot.press("escape")
                await until_shown(pilot, *run)
            await pilot.press("escape")
            await until_shown(pilot, "1 run", "recorded", "paused", "2/4")

    asyncio.run(look())


def test_the_first_round_of_a_new_run_has_the_bits_of_the_recorded_one(place: Place) -> None:
    config, pausing = str(place.path / "run.toml"), "loop.pause_after_each_round=true"

    done = place.halos("run", config, "--no-ui", "--name", "new", "--set", pausing)

    assert done.code == 6, done.stderr
    new, recorded = (
        RunDir(place.runs / name).attempt(1, "train", 1).checkpoint / "model.safetensors"
        for name in ("new", RUN)
    )
    assert_same_weights(new, recorded, place)


def test_resumed_it_ends_with_the_weights_of_a_run_that_was_never_stopped(place: Place) -> None:
    done = place.halos("resume", RUN, "--no-ui")

    assert done.code == 0, done.stderr
    run_dir = RunDir(place.runs / RUN)
    state = load_state(run_dir)
    assert (state.status, len(state.rounds)) == ("completed", 4)
    final = run_dir.final / "model.safetensors"
    assert_same_weights(final, place.path / "finals" / "resumed.safetensors", place)


def test_a_fork_of_its_first_round_ends_with_the_weights_that_it_had(place: Place) -> None:
    done = place.halos(
        "fork", RUN, "--round", "1", "--set", "loop.num_rounds=2", "--name", "forked"
    )

    assert done.code == 0, done.stderr
    run_dir = RunDir(place.runs / "forked")
    state = load_state(run_dir)
    assert (state.status, len(state.rounds)) == ("completed", 2)
    final = run_dir.final / "model.safetensors"
    assert_same_weights(final, place.path / "finals" / "forked.safetensors", place)

"""The process that a reward function runs in: what it finds there, and what becomes of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import EngineDiedError, UsageError
from halos_backend.stages.label.function import check_function
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.stage import execute
from halos_backend.stages.runtime import open_attempt
from halos_backend.store.run_dir import AttemptDir

from tests.support.label_fixtures import (
    completion,
    function_judge,
    group,
    label,
    make_attempt,
    reasons_of,
    rewards_of,
    start_stage,
)
from tests.support.waiting import wait_for

HEAD = "def judge(prompt, completion, row):\n"


def write(path: Path, source: str) -> Path:
    path.write_text(source)
    return path


def attempt_of(tmp_path: Path, texts: list[str], judge: Path, *, name: str = "attempt") -> Path:
    completions = [completion(f"c{index}", text) for index, text in enumerate(texts)]
    return make_attempt(tmp_path / name, [group("p", completions)], function_judge(judge))


def judged(tmp_path: Path, source: str, texts: list[str], *, file: str = "my_judge.py") -> Path:
    path = attempt_of(tmp_path, texts, write(tmp_path / file, source))
    label(path)
    return path


def refused(tmp_path: Path, source: str) -> str:
    path = write(tmp_path / "my_judge.py", source)
    with pytest.raises(UsageError) as raised:
        check_function(f"{path}:judge", os.environ, python=None)
    text = str(raised.value)
    assert text.startswith(f"label.judge.function = '{path}:judge': ")
    return text


NUMBERS = """
import decimal, fractions, numpy, torch
VALUES = {
    "float32": numpy.float32(0.5), "bool": numpy.bool_(True), "int8": numpy.int8(-3),
    "0-d": numpy.array(2.5), "one": numpy.array([1.5]), "half": torch.tensor(0.25).half(),
    "bfloat16": torch.tensor(-2.0, dtype=torch.bfloat16), "tensor": torch.tensor([4]),
    "graph": torch.tensor(1.0, requires_grad=True) * 3, "truth": torch.tensor(False),
    "decimal": decimal.Decimal("1.25"), "fraction": fractions.Fraction(3, 4),
    "many": numpy.array([1.0, 2.0]), "tensors": torch.ones(2), "text": numpy.str_("7"),
    "complex": 1j, "complex64": numpy.complex64(1), "time": numpy.timedelta64(3, "s"),
    "infinite": torch.tensor(float("inf")), "decimal nan": decimal.Decimal("sNaN"),
}
def judge(prompt, completion, row):
    return VALUES[completion]
"""


def test_every_kind_of_number_is_a_reward_and_nothing_else_is(tmp_path: Path) -> None:
    rewards = {
        "float32": 0.5, "bool": 1.0, "int8": -3.0, "0-d": 2.5, "one": 1.5, "half": 0.25,
        "bfloat16": -2.0, "tensor": 4.0, "graph": 3.0, "truth": 0.0, "decimal": 1.25,
        "fraction": 0.75,
    }  # fmt: skip
    reasons = {
        "many": "ndarray, which is no number",
        "tensors": "Tensor, which is no number",
        "text": "str_",
        "complex": "complex",
        "complex64": "complex64",
        "time": "timedelta64, which is no number",
    }
    texts = [*rewards, *reasons, "infinite", "decimal nan"]
    path = judged(tmp_path, NUMBERS, texts)
    assert dict(zip(texts, rewards_of(path), strict=True)) == {**dict.fromkeys(texts), **rewards}
    assert reasons_of(path)[len(rewards) :] == [
        *[f"judge returned {reason}" for reason in reasons.values()],
        "reward is inf",
        "judge returned Decimal, which is no number",
    ]


def test_a_function_that_exits_leaves_one_completion_unscored(tmp_path: Path) -> None:
    source = (
        "import argparse, sys\n"
        + HEAD
        + "    if completion == 'exit':\n        sys.exit('enough')\n"
        "    if completion == 'parse':\n"
        "        argparse.ArgumentParser().parse_args(['--unknown'])\n"
        "    return 1\n"
    )
    path = judged(tmp_path, source, ["exit", "fine", "parse"])
    assert rewards_of(path) == [None, 1.0, None]
    assert reasons_of(path)[0] == "judge raised SystemExit: enough"
    assert reasons_of(path)[2] == "judge raised SystemExit: 2"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys\nsys.exit(3)\n", "ended its program with SystemExit: 3; put what is to run"),
        ("import os\nos._exit(3)\n", "its process ended with exit code 3 while"),
        ("import os\nos.kill(os.getpid(), 11)\n", "its process was killed by SIGSEGV while"),
        ("x = 1\nraise KeyError('x')\n", "raised KeyError: 'x' in line 2; mend the file"),
        ("def judge(prompt):\n    return 1\n", "judge(prompt) does not take three arguments"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_at_the_check(
    tmp_path: Path, source: str, reason: str
) -> None:
    assert reason in refused(tmp_path, source)


FINDS = """
import json, os, sys
TABLE = json.load(open("table.json"))
print("progress 3 4")
def judge(prompt, completion, row):
    print("progress 1 2")
    assert sys.argv == [__file__], sys.argv
    assert os.getcwd() == os.path.dirname(__file__)
    assert "PYTHONSAFEPATH" not in os.environ
    try:
        input()
    except EOFError:
        return TABLE["worth"] + json.load(open("table.json"))["worth"]
"""


def test_it_works_in_its_files_folder_and_prints_into_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "judges"
    folder.mkdir()
    write(folder / "table.json", '{"worth": 3}')
    judge = write(folder / "my_judge.py", FINDS)
    assert check_function(f"{judge}:judge", os.environ, python=None) == (judge,)
    path = attempt_of(tmp_path, ["a"], judge)
    label(path)
    assert rewards_of(path) == [6.0]
    assert AttemptDir(path).log.read_text() == "progress 3 4\nprogress 1 2\n"
    assert capfd.readouterr() == ("", "")


SPAWNS = """
import dataclasses, multiprocessing, pickle
@dataclasses.dataclass
class Found:
    length: int
def length(text):
    return Found(len(text))
def judge(prompt, completion, row):
    assert pickle.loads(pickle.dumps(Found(1))) == Found(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(length, [completion])
    return found.length if isinstance(found, Found) else None
"""


@pytest.mark.parametrize("file", ["my_judge.py", "random.py", "yaml.py", "my-judge.v2.py"])
def test_a_pool_of_its_own_finds_its_module_by_name(tmp_path: Path, file: str) -> None:
    """Also where a module of Python's, or an installed one, has that name."""
    path = judged(tmp_path, SPAWNS, ["four"], file=file)
    assert rewards_of(path) == [4.0], reasons_of(path)


def test_async_functions_wait_side_by_side(tmp_path: Path) -> None:
    source = (
        "import asyncio, sys\nwaiting = {}\n"
        "async def judge(prompt, completion, row):\n"
        "    other = waiting.setdefault('other', asyncio.Event())\n"
        "    if completion == 'first':\n"
        "        await other.wait()\n"
        "    elif completion == 'exit':\n"
        "        sys.exit(1)\n"
        "    other.set()\n"
        "    return len(completion)\n"
    )
    path = judged(tmp_path, source, ["first", "exit", "second"])
    assert rewards_of(path) == [5.0, None, 6.0]
    assert reasons_of(path)[1] == "judge raised SystemExit: 1"


def test_a_completion_on_which_the_process_dies_is_unscored_and_the_others_are_scored(
    tmp_path: Path,
) -> None:
    source = (
        "import os\n" + HEAD + "    if completion == 'exit':\n        os._exit(7)\n"
        "    if completion == 'crash':\n        os.kill(os.getpid(), 11)\n"
        "    return len(completion)\n"
    )
    path = judged(tmp_path, source, ["a", "exit", "bb", "crash", "ccc"])
    assert rewards_of(path) == [1.0, None, 2.0, None, 3.0]
    assert reasons_of(path)[1] == "judge's process ended with exit code 7"
    assert reasons_of(path)[3] == "judge's process was killed by SIGSEGV"


def test_a_process_that_always_dies_fails_the_stage_by_name(tmp_path: Path) -> None:
    source = "import os\n" + HEAD + "    os._exit(7)\n"
    with pytest.raises(EngineDiedError) as raised:
        judged(tmp_path, source, ["a"] * 9)
    assert "label.judge.function = '" in str(raised.value)
    assert "its process ended with exit code 7, on 3 completions in a row" in str(raised.value)


def test_a_death_is_seen_though_a_child_of_it_lives_on(tmp_path: Path) -> None:
    source = (
        "import os, time\n" + HEAD + "    if completion == 'die':\n"
        "        if os.fork() == 0:\n            time.sleep(20)\n"
        "        os._exit(7)\n"
        "    return 1\n"
    )
    path = judged(tmp_path, source, ["a", "die"])
    assert rewards_of(path) == [1.0, None]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_no_judge_outlives_a_killed_stage(tmp_path: Path) -> None:
    source = (
        "import os, pathlib, time\n"
        + HEAD
        + "    pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "    pathlib.Path('there').touch()\n"
        "    time.sleep(1000)\n"
    )
    path = attempt_of(tmp_path, ["a"], write(tmp_path / "my_judge.py", source))
    stage = start_stage(path)
    wait_for((tmp_path / "there").exists)
    pid = int((tmp_path / "pid").read_text())
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    wait_for(lambda: not is_running(pid))


def test_what_a_function_starts_ends_with_the_stage(tmp_path: Path) -> None:
    source = (
        "import subprocess, pathlib\n"
        + HEAD
        + "    child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "    return child.pid\n"
    )
    (pid,) = rewards_of(judged(tmp_path, source, ["a"]))
    assert pid is not None
    wait_for(lambda: not is_running(int(pid)))


def label_kept(path: Path, cache: JudgeCache) -> Any:
    attempt = open_attempt(path, stays=True)
    execute(attempt, cache=cache)
    (reward,) = rewards_of(path)
    return reward


def test_a_worker_keeps_the_process_until_a_file_of_it_changes(tmp_path: Path) -> None:
    write(tmp_path / "beside_the_judge.py", "WORTH = 1\n")
    source = (
        "import os\nfrom beside_the_judge import WORTH\n"
        + HEAD
        + "    print('asked', flush=True)\n"
        "    return os.getpid() * WORTH\n"
    )
    judge = write(tmp_path / "my_judge.py", source)
    cache = JudgeCache()
    first, second, third = (
        attempt_of(tmp_path, ["a"], judge, name=name) for name in ("one", "two", "three")
    )
    pid = label_kept(first, cache)
    assert label_kept(second, cache) == pid
    assert AttemptDir(first).log.read_text() == AttemptDir(second).log.read_text() == "asked\n"
    write(tmp_path / "beside_the_judge.py", "WORTH = -1\n")
    assert label_kept(third, cache) not in (pid, -pid)
    cache.close()
    assert not is_running(int(pid))

"""What the doctor says of a machine and of settings, each with what to do."""

from __future__ import annotations

import importlib
import os
import pwd
import resource
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from halos_backend.config.needs import trainer_memory_bytes
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import (
    disk_needed_bytes,
    examine_machine,
    examine_settings,
)
from halos_backend.doctor.disk import examine_runs_root
from halos_backend.doctor.gpu import examine_devices, examine_gpus, gpu_memory_bytes
from halos_backend.doctor.machine import (
    examine_logout,
    examine_memory,
    examine_open_files,
    examine_packages,
    examine_python,
    examine_shm,
)
from halos_backend.doctor.settings import (
    examine_batch,
    examine_cpu_memory,
    examine_disk,
    examine_engine_memory,
    examine_gpu_memory,
    examine_lengths,
    examine_prompts,
    examine_warmth,
)
from halos_backend.findings import GIB, MIB, Finding, Prepared, in_gib
from msgspec.structs import replace


def settings(**tables: Any) -> RunSettings:
    table: dict[str, Any] = {
        "policy": {"path": "org/policy"},
        "prompts": {"path": "org/prompts"},
        "label": {
            "judge": {"kind": "function", "function": "judge.py:f"},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
    }
    return RunSettings.model_validate(table | tables)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# Machine


def test_every_part_of_this_machine_is_examined_and_nothing_is_left_behind(tmp_path: Path) -> None:
    findings = examine_machine(tmp_path / "not" / "yet" / "there")
    assert {finding.subject for finding in findings} >= {
        "python", "packages", "gpu", "cores", "memory", "disk", "runs directory", "shared memory",
        "log-out", "open files",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_not_all_right_has_a_fix(tmp_path: Path) -> None:
    for finding in examine_machine(tmp_path):
        assert (finding.level == "ok") == (finding.fix == "")


def test_an_old_python_is_a_problem() -> None:
    finding = examine_python((3, 10))
    assert (finding.level, finding.fix) == ("problem", "set up with Python 3.11 or newer")
    assert examine_python((3, 12)).level == "ok"


def installed(versions: dict[str, str]) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return version


REQUIREMENTS = ["typer<0.29,>=0.28", "torch>=2.6", 'pytest>=9; extra == "dev"']


def test_packages_that_fit_are_listed_with_their_versions() -> None:
    found = examine_packages(lambda: REQUIREMENTS, installed({"typer": "0.28.0", "torch": "2.13"}))
    assert only(found) == Finding("ok", "packages", "typer 0.28.0, torch 2.13")


def test_missing_and_unfit_packages_are_problems_with_the_command_that_mends_them() -> None:
    found = examine_packages(lambda: REQUIREMENTS, installed({"typer": "0.29.1"}))
    assert [finding.text for finding in found] == [
        "typer 0.29.1 is not <0.29,>=0.28",
        "torch is not installed",
    ]
    assert found[0].fix == "pip install 'typer<0.29,>=0.28'"
    assert found[1].fix == "pip install 'torch>=2.6'"
    assert {finding.level for finding in found} == {"problem"}


def test_a_bare_source_tree_is_a_warning() -> None:
    def not_installed() -> NoReturn:
        raise metadata.PackageNotFoundError("halos-tui")

    finding = only(examine_packages(not_installed))
    assert finding.level == "warning"
    assert "pip install -e ." in finding.fix


def test_little_memory_is_a_warning() -> None:
    assert examine_memory(8 * GIB, GIB).level == "warning"
    assert examine_memory(8 * GIB, 4 * GIB) == Finding(
        "ok", "memory", "4.0 GiB available of 8.0 GiB"
    )


def test_a_missing_shared_memory_is_a_warning(tmp_path: Path) -> None:
    assert examine_shm(tmp_path / "shm").level == "warning"


@pytest.mark.parametrize(
    ("soft", "hard", "level", "fix"),
    [
        (256, 4096, "warning", "ulimit -n 4096"),
        (256, 512, "warning", "ulimit -n 512"),
        (256, resource.RLIM_INFINITY, "warning", "ulimit -n 1024"),
        (1024, 4096, "ok", ""),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", ""),
    ],
)
def test_few_open_files_are_a_warning(soft: int, hard: int, level: str, fix: str) -> None:
    finding = examine_open_files(soft, hard)
    assert (finding.level, finding.fix) == (level, fix)


# Disk


def test_a_directory_that_can_lock_and_rename_is_fine(tmp_path: Path) -> None:
    space, abilities = examine_runs_root(tmp_path)
    assert space.subject == "disk"
    assert abilities == Finding(
        "ok", "runs directory", f"{tmp_path}: locks, renames and links work"
    )


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no /sys, which nobody can write to")
def test_a_directory_that_cannot_be_written_is_a_problem() -> None:
    _, abilities = examine_runs_root(Path("/sys/kernel/runs"))
    assert abilities.level == "problem"
    assert "cannot write" in abilities.text
    assert "HALOS_RUNS_DIR" in abilities.fix


def test_a_file_system_that_refuses_locks_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> NoReturn:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    _, abilities = examine_runs_root(tmp_path)
    assert abilities.level == "problem"
    assert "files cannot be locked: Function not implemented" in abilities.text


def test_a_file_system_that_gives_everybody_the_lock_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)
    _, abilities = examine_runs_root(tmp_path)
    assert abilities.level == "problem"
    assert "locks are given to everybody" in abilities.text


# GPUs


class FakeNvml:
    """NVIDIA's management library with the GPUs it is given, as (free, total) bytes."""

    class NVMLError(Exception):
        """As the library's own."""

    def __init__(self, *memory: tuple[int, int], broken: bool = False) -> None:
        self.memory, self.broken, self.is_shut_down = memory, broken, False

    def nvmlDeviceGetCount(self) -> int:
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")
        return len(self.memory)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(free=self.memory[handle][0], total=self.memory[handle][1])

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"Big GPU"

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return f"GPU-{'abcd'[handle]}".encode()

    def nvmlSystemGetDriverVersion(self) -> str:
        return "600.1"

    def nvmlShutdown(self) -> None:
        self.is_shut_down = True


CUDA_TORCH = installed({"torch": "2.13.0"})


def test_no_gpu_is_a_normal_answer() -> None:
    finding = only(examine_gpus(lambda: None))
    assert finding == Finding("ok", "gpu", "no NVIDIA GPU found: stages run on the CPU")
    assert gpu_memory_bytes(settings().launch, lambda: None) is None


def test_gpus_are_listed_with_memory_and_driver() -> None:
    nvml = FakeNvml((79 * GIB, 80 * GIB), (10 * GIB, 80 * GIB))
    idle, busy, driver = examine_gpus(lambda: nvml, CUDA_TORCH)
    assert idle == Finding("ok", "gpu", "0: Big GPU, 79.0 GiB free of 80.0 GiB")
    assert (busy.level, busy.fix) == ("warning", "nvidia-smi shows who holds the rest")
    assert driver == Finding("ok", "gpu driver", "600.1")
    assert nvml.is_shut_down


def test_a_torch_without_gpu_support_beside_a_gpu_is_a_problem() -> None:
    nvml = FakeNvml((80 * GIB, 80 * GIB))
    *_, finding = examine_gpus(lambda: nvml, installed({"torch": "2.13.0+cpu"}))
    assert finding.level == "problem"
    assert finding.fix == "pip install --force-reinstall torch==2.13.0"


def test_a_driver_that_does_not_answer_is_a_warning() -> None:
    nvml = FakeNvml((1, 1), broken=True)
    finding = only(examine_gpus(lambda: nvml, CUDA_TORCH))
    assert finding.level == "warning"
    assert "Driver/library version mismatch" in finding.text
    assert nvml.is_shut_down
    assert gpu_memory_bytes(settings().launch, lambda: nvml) is None


@pytest.mark.parametrize(
    ("devices", "visible", "num_gib"),
    [
        (None, None, 20),
        (None, "0,1", 40),
        (None, "GPU-a", 80),
        (None, "", None),
        (None, "MIG-1234", 20),  # a part of some GPU
        ([0], None, 80),
        ([1, 0], None, 40),
        ([0], "2,1", 20),
        ([1], "2,1", 40),
    ],
)
def test_the_smallest_gpu_that_the_run_takes_counts(
    devices: list[int] | None, visible: str | None, num_gib: int | None
) -> None:
    nvml = FakeNvml((1, 80 * GIB), (1, 40 * GIB), (1, 20 * GIB))
    launch = settings(launch={"devices": devices}).launch
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = gpu_memory_bytes(launch, lambda: nvml, environment=environment)
    assert found == (None if num_gib is None else num_gib * GIB)


def test_gpus_of_the_run_are_counted_among_those_that_are_shown() -> None:
    nvml = FakeNvml((1, GIB), (1, GIB), (1, GIB))
    launch = settings(launch={"devices": [2]}).launch
    assert examine_devices(launch, lambda: nvml, environment={}).level == "ok"
    shown = {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert examine_devices(launch, lambda: nvml, environment=shown).level == "problem"


def test_the_library_being_absent_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert only(examine_gpus()).text.startswith("no NVIDIA GPU")


# Log-out


def logind(root: Path, text: str, *, drop_in: str | None = None) -> Path:
    folder = root / "etc/systemd"
    folder.mkdir(parents=True)
    (folder / "logind.conf").write_text(text)
    if drop_in is not None:
        (folder / "logind.conf.d").mkdir()
        (folder / "logind.conf.d" / "50-own.conf").write_text(drop_in)
    return root


KILLS = "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n"
USER = pwd.getpwuid(os.getuid()).pw_name


def test_a_machine_without_logind_is_fine(tmp_path: Path) -> None:
    assert examine_logout(tmp_path).level == "ok"


def test_a_commented_rule_is_no_rule(tmp_path: Path) -> None:
    root = logind(tmp_path, "[Login]\n#KillUserProcesses=yes\n")
    assert examine_logout(root).level == "ok"


@pytest.mark.parametrize("lingers", [False, None])
def test_processes_ended_at_log_out_are_a_warning(tmp_path: Path, lingers: bool | None) -> None:
    root = logind(tmp_path, KILLS + "KillExcludeUsers=\n")
    finding = examine_logout(root, lambda user: lingers)
    assert (finding.level, finding.fix) == ("warning", "loginctl enable-linger")


def test_a_lingering_user_keeps_its_runs(tmp_path: Path) -> None:
    root = logind(tmp_path, KILLS + "KillExcludeUsers=\n")
    assert examine_logout(root, lambda user: True).level == "ok"


def test_a_drop_in_goes_over_the_main_file(tmp_path: Path) -> None:
    root = logind(tmp_path, KILLS, drop_in="[Login]\nKillUserProcesses=no\n")
    assert examine_logout(root, lambda user: False).level == "ok"


def test_an_excluded_user_keeps_its_runs(tmp_path: Path) -> None:
    root = logind(tmp_path, KILLS + f"KillExcludeUsers=someone {USER}\n")
    assert examine_logout(root, lambda user: False).level == "ok"


def test_a_rule_for_others_only_leaves_this_user_alone(tmp_path: Path) -> None:
    root = logind(tmp_path, KILLS + "KillExcludeUsers=\nKillOnlyUsers=someone-else\n")
    assert examine_logout(root, lambda user: False).level == "ok"


# Settings


@pytest.mark.parametrize(
    ("prompts", "fix"),
    [
        ({"path": "tatsu-lab/alpaca_eval", "split": "eval"}, "name other prompts in prompts.path"),
        ({"path": "alpacaeval"}, "name other prompts in prompts.path"),
        ({"path": "HuggingFaceH4/mt_bench_prompts"}, "name other prompts in prompts.path"),
        ({"path": "lmarena-ai/arena-hard-auto"}, "name other prompts in prompts.path"),
        ({"path": "google/IFEval"}, "name other prompts in prompts.path"),
        ({"path": "truthful_qa", "subset": "generation"}, "name other prompts in prompts.path"),
        ({"path": "openai/gsm8k", "split": "test"}, "set prompts.split to 'train'"),
        ({"path": "openai/gsm8k", "split": "test[:100]"}, "set prompts.split to 'train'"),
        ({"path": "cais/mmlu", "split": "validation"}, "set prompts.split to 'auxiliary_train'"),
        ({"path": "openai/openai_humaneval"}, "name other prompts in prompts.path"),
        ({"path": "/somewhere/gsm8k_test.jsonl"}, "set prompts.split to 'train'"),
        ({"path": "/somewhere/alpaca_eval.json"}, "name other prompts in prompts.path"),
    ],
)
def test_a_known_evaluation_set_is_a_warning(prompts: dict[str, str], fix: str) -> None:
    finding = examine_prompts(settings(prompts=prompts))
    assert finding.level == "warning"
    assert "trains on what it is judged by" in finding.text
    assert finding.fix == fix


@pytest.mark.parametrize(
    "prompts",
    [
        {"path": "openai/gsm8k"},
        {"path": "openai/gsm8k", "split": "train[:1000]"},
        {"path": "/somewhere/gsm8k_train_1000.jsonl"},
        {"path": "princeton-nlp/llama3-ultrafeedback-armorm"},
        {"path": "cais/mmlu", "split": "auxiliary_train"},
        {"path": "mine.jsonl"},
    ],
)
def test_other_prompts_are_fine(prompts: dict[str, str]) -> None:
    assert examine_prompts(settings(prompts=prompts)).level == "ok"


def test_one_step_is_stated_in_what_the_loss_counts() -> None:
    pairs = settings(train={"loss": {"kind": "dpo"}, "batch_size": 32, "num_epochs": 2})
    assert examine_batch(pairs).text == (
        "one step sees 32 pairs; a round has at most 512, so 32 steps"
    )
    groups = settings(
        label={"judge": {"kind": "function", "function": "a.py:f"}, "feedback": {"kind": "scalar"}},
        train={"loss": {"kind": "grpo"}, "batch_size": 64},
        launch={"num_processes": 4},
    )
    assert examine_batch(groups).text == (
        "one step sees 64 completions, 16 on each of 4; a round has at most 4096, so 64 steps"
    )


def test_kto_takes_pairs_apart() -> None:
    kto = settings(train={"loss": {"kind": "kto"}, "batch_size": 64})
    assert examine_batch(kto).text == (
        "one step sees 64 completions; a round has at most 1024, so 16 steps"
    )


def test_a_round_smaller_than_a_batch_is_a_warning() -> None:
    finding = examine_batch(settings(loop={"prompts_per_round": 8}))
    assert finding.level == "warning"
    assert finding.fix == "raise loop.prompts_per_round or lower train.batch_size"


def test_completions_longer_than_the_judge_reads_are_a_warning() -> None:
    judge = {"kind": "reward_model", "path": "org/rm", "max_tokens": 700}
    label = {"judge": judge, "feedback": {"kind": "pairwise"}}
    fine = settings(label=label, prompts={"path": "p", "max_tokens": 188})
    assert examine_lengths(fine) == []
    finding = only(examine_lengths(settings(label=label, prompts={"path": "p", "max_tokens": 189})))
    assert "label.judge.max_tokens = 700 stay unscored" in finding.text


# Needs


def test_disk_is_checkpoints_and_trainer_states_and_rows() -> None:
    # bfloat16: 2 bytes a parameter. Kept 2, best 1, new 1; states 12 bytes three times.
    assert disk_needed_bytes(settings(), num_parameters=1000, checkpoint_bytes=2000) == (
        4 * 2000 + 3 * 12 * 1000
    )
    # float32 checkpoints are their own master weights: two states of 8 bytes, one of 12.
    assert disk_needed_bytes(settings(), num_parameters=1000, checkpoint_bytes=4000) == (
        4 * 4000 + (8 + 8 + 12) * 1000
    )
    # 10 prompts x 8 completions x 512 tokens x 33 bytes, in the second case 7 prompts.
    rows = 8 * 512 * 33
    for loop, num_prompts in (({}, 10), ({"num_prompts": 7, "prompts_per_round": 7}, 7)):
        found = disk_needed_bytes(
            settings(loop=loop), num_parameters=0, checkpoint_bytes=0, num_prompts=10
        )
        assert found == num_prompts * rows


def test_keeping_fewer_checkpoints_needs_less() -> None:
    loop = {"keep_checkpoints": 1, "keep_best": False}
    assert disk_needed_bytes(settings(loop=loop), num_parameters=0, checkpoint_bytes=5) == 2 * 5


def test_the_trainer_holds_weights_gradients_and_moments() -> None:
    full = settings()
    assert trainer_memory_bytes(full, num_parameters=1000, checkpoint_bytes=2000) == 16_000
    sharded = settings(launch={"sharding": "fsdp2", "num_processes": 4})
    assert trainer_memory_bytes(sharded, num_parameters=1000, checkpoint_bytes=2000) == 4_000
    humanline = settings(train={"loss": {"kind": "dpo", "humanline": {}}, "reference": "previous"})
    assert trainer_memory_bytes(humanline, num_parameters=1000, checkpoint_bytes=2000) == 18_000


def test_adapters_need_less_disk_and_memory() -> None:
    lora = settings(train={"loss": {"kind": "dpo"}, "lora": {"r": 16}})
    size = {"num_parameters": 10**9, "checkpoint_bytes": 2 * 10**9}
    assert trainer_memory_bytes(lora, **size) < trainer_memory_bytes(settings(), **size) / 4
    assert disk_needed_bytes(lora, **size) < disk_needed_bytes(settings(), **size)


def test_a_disk_that_is_too_small_is_a_problem() -> None:
    finding = examine_disk(3 * GIB, 2 * GIB)
    assert finding.level == "problem"
    assert finding.text == "needs up to 3.0 GiB, 2.0 GiB are free"
    assert "loop.keep_checkpoints" in finding.fix
    assert examine_disk(2 * GIB, 2 * GIB).level == "ok"


@pytest.mark.parametrize(("needed", "level"), [(7, "ok"), (9, "warning"), (11, "problem")])
def test_memory_is_judged_by_what_is_there(needed: int, level: str) -> None:
    assert examine_gpu_memory(needed * GIB, 10 * GIB).level == level
    assert examine_cpu_memory(needed * GIB, 20 * GIB, 2).level == level


@pytest.mark.parametrize(
    ("weights", "memory", "vllm", "is_warm", "fix"),
    [
        (20, 40, {}, True, ""),
        (38, 40, {}, False, "raise sample.vllm.tensor_parallel_size, or set sample.engine ="),
        (38, 40, {"tensor_parallel_size": 2}, False, ""),
        (4, 8, {}, False, ""),
        (4, 8, {}, True, "set sample.vllm.gpu_memory_utilization = 0.87"),
        (4, 8, {"gpu_memory_utilization": 0.87}, True, ""),
        (7, 8, {"gpu_memory_utilization": 0.95}, True, "set launch.warm_workers = false, or"),
    ],
)
def test_vllm_leaves_room_for_what_the_others_keep(
    weights: int, memory: int, vllm: dict[str, Any], is_warm: bool, fix: str
) -> None:
    """In GiB; two other workers keep 0.5 each."""
    warm = settings(sample={"vllm": vllm}, launch={"warm_workers": is_warm})
    found = examine_engine_memory(warm, checkpoint_bytes=weights * GIB, memory=memory * GIB)
    assert found.level == ("problem" if fix else "ok")
    assert found.fix.startswith(fix)


def test_a_reward_model_beside_the_engine_needs_room() -> None:
    judge = {"kind": "reward_model", "path": "/models/judge"}
    for share, level in ((None, "problem"), (0.6, "ok")):
        overlapped = settings(
            loop={"overlap": True},
            sample={"vllm": {"gpu_memory_utilization": share}},
            label={"judge": judge, "feedback": {"kind": "pairwise"}},
        )
        found = examine_engine_memory(overlapped, checkpoint_bytes=4 * GIB, memory=40 * GIB)
        assert found.level == level
        if level == "problem":
            assert "92% of the GPU's memory" in found.text
            assert found.fix == (
                "set sample.vllm.gpu_memory_utilization, 0.6 say, or loop.overlap = false"
            )


def test_without_sizes_needs_are_said_to_be_unknown() -> None:
    findings = examine_settings(settings(), prepared=None)
    assert findings[-1] == Finding(
        "ok",
        "needs",
        "known once the policy has been looked at, as halos-tui run FILE --dry-run does",
    )


def test_with_sizes_disk_and_memory_are_judged(tmp_path: Path) -> None:
    prepared = Prepared(num_parameters=10**15, checkpoint_bytes=2 * 10**15, num_prompts=100)
    levels = {
        finding.subject: finding.level
        for finding in examine_settings(settings(), prepared=prepared, runs_root=tmp_path / "runs")
    }
    assert levels["disk"] == "problem"
    assert levels["memory"] == "problem"


def test_sizes_are_written_for_people() -> None:
    assert (in_gib(1.5 * GIB), in_gib(300 * MIB)) == ("1.5 GiB", "300 MiB")


@pytest.mark.parametrize(
    ("wanted", "room", "level", "said"),
    [
        ("auto", 2 * GIB, "ok", "they stay between rounds: the programs of all stages take up to"),
        ("auto", GIB // 2, "ok", "each stage starts one of its own in every round: the programs"),
        (True, GIB // 2, "warning", "they stay between rounds, as launch.warm_workers = true says"),
    ],
)
def test_whether_programs_stay_is_foreseen(
    wanted: bool | str, room: int, level: str, said: str
) -> None:
    """A function and a tiny policy: 800 MiB together."""
    prepared = Prepared(num_parameters=1000, checkpoint_bytes=4000, judge_parameters=0)
    made = settings(launch={"warm_workers": wanted})
    (found,) = examine_warmth(
        made, replace(prepared, sampler="transformers"), room_bytes=room, gpu_bytes=None
    )
    assert found.level == level
    assert found.text.startswith(said)
    assert examine_warmth(made, prepared, room_bytes=room, gpu_bytes=None) == []
    cold = settings(launch={"warm_workers": False})
    assert examine_warmth(cold, prepared, room_bytes=room, gpu_bytes=None) == []

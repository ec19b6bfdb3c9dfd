"""Owns the layout of a run directory: every path of a run is joined here and nowhere else."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from halos_backend.errors import RunNotFoundError, UsageError
from halos_backend.events import Stage

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class AttemptDir:
    """Is one execution of a stage: its job, its output, and `DONE` once it is proven."""

    path: Path

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Holds the standard output and standard error of the stage, as bytes."""
        return self.path / "stdout.log"

    @property
    def done(self) -> Path:
        return self.path / "DONE"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def completions(self) -> Path:
        return self.path / "completions.jsonl"

    @property
    def early_groups(self) -> Path:
        """Holds groups that were finished before their turn; what a later attempt may reuse."""
        return self.path / "early_groups.jsonl"

    @property
    def canary(self) -> Path:
        """Holds the log-probabilities of some sampled tokens, as the sampler gave them."""
        return self.path / "canary.jsonl"

    @property
    def sampler(self) -> Path:
        """Says which engine samples, and why."""
        return self.path / "sampler.json"

    @property
    def rewards(self) -> Path:
        """Holds rewards in the order they were computed; what a later attempt may reuse."""
        return self.path / "rewards.jsonl"

    @property
    def scores(self) -> Path:
        return self.path / "scores.jsonl"

    @property
    def feedback(self) -> Path:
        return self.path / "feedback.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Is a plain Hugging Face model directory."""
        return self.path / "checkpoint"

    @property
    def trainer_state(self) -> Path:
        """Holds what the next round's trainer needs and nobody else; it is pruned apart from the
        checkpoint.
        """
        return self.path / "trainer_state"

    @property
    def adapter(self) -> Path:
        """Holds LoRA weights in peft's format; absent where they do not apply to the initial
        policy.
        """
        return self.trainer_state / "adapter"

    @property
    def partial_state(self) -> Path:
        """Holds the trainer's state in mid-round, for a later attempt of the same round."""
        return self.path / "partial_state"


@dataclass(frozen=True)
class WorkerDir:
    """Is the folder of a stage's program that stays between rounds: who it is, and what it is to do
    next.
    """

    path: Path

    @property
    def record(self) -> Path:
        """Holds its identity, and how it was started; written by the supervisor."""
        return self.path / "worker.json"

    @property
    def task(self) -> Path:
        """Names the attempt it works on, or is to begin; the worker removes it when that
        has ended.
        """
        return self.path / "inbox" / "task.json"

    @property
    def log(self) -> Path:
        """Holds what it says between attempts."""
        return self.path / "stdout.log"

    @property
    def farewell(self) -> Path:
        """Says why it left, in its own words."""
        return self.path / "farewell.txt"


@dataclass(frozen=True)
class RunDir:
    """Is the directory of one run, and joins every path in it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        """Is the run file as the person wrote it."""
        return self.path / "config.toml"

    @property
    def resolved_config(self) -> Path:
        """Holds the settings as the program understood them, every default filled in."""
        return self.path / "config.resolved.json"

    @property
    def initial(self) -> AttemptDir:
        """Is where a forked run keeps its copy of the checkpoint and trainer state it
        begins with.
        """
        return AttemptDir(self.path / "initial")

    @property
    def prompts(self) -> Path:
        """Holds the run's prompts, frozen at its creation."""
        return self.path / "prompts.jsonl"

    @property
    def held_out(self) -> Path:
        """Holds prompts that the result alone is scored on, frozen too; absent where none are
        named.
        """
        return self.path / "held_out.jsonl"

    @property
    def prepared(self) -> Path:
        """Holds what the check of the inputs found: counts and digests."""
        return self.path / "prepared.json"

    @property
    def prepare_log(self) -> Path:
        return self.path / "prepare.log"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def own_words(self) -> Path:
        """Holds title, note and tags that a person gave the run; absent where nobody did."""
        return self.path / "own_words.json"

    @property
    def own_marks(self) -> Path:
        """Holds a person's marks on completions, and notes about them; absent without any."""
        return self.path / "own_marks.jsonl"

    @property
    def judge_answers(self) -> Path:
        """Holds every answer of a judge behind an API, as it came; none is asked for twice."""
        return self.path / "judge_answers.jsonl"

    @property
    def lock(self) -> Path:
        return self.path / "supervisor.lock"

    @property
    def heartbeat(self) -> Path:
        return self.path / "supervisor.heartbeat"

    @property
    def supervisor_log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def telemetry(self) -> Path:
        """Holds what the machine and its GPUs did, a line for each reading."""
        return self.path / "telemetry.jsonl"

    @property
    def old_telemetry(self) -> Path:
        """Holds older readings, once there are many."""
        return self.path / "telemetry.1.jsonl"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def answered(self) -> Path:
        return self.path / "control" / "done"

    @property
    def final(self) -> Path:
        """Is a link to the newest finished round's checkpoint."""
        return self.path / "final"

    def round(self, round: int) -> Path:
        return self.path / "rounds" / f"{round:04d}"

    def round_settings(self, round: int) -> Path:
        return self.round(round) / "settings.json"

    def attempt(self, round: int, stage: Stage, attempt: int) -> AttemptDir:
        return AttemptDir(self.round(round) / stage / f"attempt_{attempt}")

    def worker(self, stage: Stage) -> WorkerDir:
        return WorkerDir(self.path / "workers" / stage)

    def relative(self, path: Path) -> str:
        """Returns a path as the journal writes it."""
        return path.relative_to(self.path).as_posix()


def run_containing(path: Path) -> Path:
    """Returns the run's directory, from that of one of its attempts or workers."""
    inside = (parent for parent in path.parents if parent.name in ("rounds", "workers"))
    return next((parent.parent for parent in inside), path.parent)


def default_runs_root() -> Path:
    """Returns `$HALOS_RUNS_DIR`, else `runs` in the user's data directory. Makes nothing."""
    configured = os.environ.get("HALOS_RUNS_DIR")
    if configured:
        return Path(configured)
    import platformdirs  # a sampler's own environment need not have it

    return platformdirs.user_data_path("halos-tui") / "runs"


def cache_root() -> Path:
    """Returns `$HALOS_CACHE_DIR`, else the user's cache directory. Makes nothing."""
    configured = os.environ.get("HALOS_CACHE_DIR")
    if configured:
        return Path(configured)
    import platformdirs  # a sampler's own environment need not have it

    return platformdirs.user_cache_path("halos-tui")


def check_run_name(root: Path, name: str) -> None:
    """Raises UsageError for a name that no run can have, or that one has already."""
    if not RUN_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no run name: letters, digits, '.', '_' and '-', at most 100,"
            " beginning with a letter or digit"
        )
    if (root / name).exists():
        taken = RunDir(root / name)
        raise UsageError(
            f"a run named {name!r} exists in {root}",
            fix=f"take another name: --name {free_name(name, root)}; or look at that one:"
            f" {command_for(taken, 'attach')}; or delete it: {command_for(taken, 'rm')}",
        )


def free_name(stem: str, root: Path) -> str:
    """Returns `stem`, numbered where there is a run of that name."""
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next((free for free in taken if not (root / free).exists()), stem)


def find_run(root: Path, name: str) -> RunDir:
    """Returns the run of that name under `root`, or the run directory at that path."""
    for candidate in (root / name, Path(name)):
        if RunDir(candidate).events.is_file():
            return RunDir(candidate.resolve())
    elsewhere = "" if _is_default(root) else f" --runs-dir {shlex.quote(str(root))}"
    near = get_close_matches(name, run_names(root), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RunNotFoundError(
        f"no run {name!r} in {root}", fix=f"{hint}halos-tui list{elsewhere} shows what is there"
    )


def command_for(run_dir: RunDir, verb: str, *arguments: str) -> str:
    """Returns `halos-tui VERB RUN`, with --runs-dir where the run is not in the default place."""
    root = run_dir.path.parent
    elsewhere = [] if _is_default(root) else ["--runs-dir", str(root)]
    return shlex.join(["halos-tui", verb, run_dir.name, *arguments, *elsewhere])


def _is_default(root: Path) -> bool:
    return root.resolve() == default_runs_root().resolve()


def run_names(root: Path) -> list[str]:
    """Returns the names of all runs under `root`; none where it cannot be read."""
    try:
        return sorted(path.name for path in root.iterdir() if RunDir(path).events.is_file())
    except OSError:
        return []

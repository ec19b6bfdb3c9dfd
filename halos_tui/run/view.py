"""Owns what the run screen draws, as frozen plain data; `reader` makes it in the feed's thread.

A part that stays the same stays the same object or an equal one, so that its panel repaints
nothing. Texts from elsewhere are raw: panels make them visible.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from halos_backend.events import Stage
from halos_backend.store.request_rules import Standing

from halos_tui.charts.distribution import Distribution
from halos_tui.formatting import FigureLook
from halos_tui.tracking.eta import Estimate
from halos_tui.tracking.rounds import RoundCells
from halos_tui.tracking.status import SeenStatus

Severity = Literal["bad", "warning", "muted"]


@dataclass(frozen=True)
class Notice:
    """This is something a person should know. Of one `kind` only the newest is shown, unless it is
    "".
    """

    severity: Severity
    text: str
    kind: str = ""


@dataclass(frozen=True)
class HeaderView:
    """`elapsed_s` is the time in which the run was at work.

    `hint` says what to do about the status; `pending` are changes that wait for a round. `problem`
    says why what is shown may be old, or is nothing.
    """

    name: str
    status: SeenStatus | Literal["unknown"] = "unknown"
    problem: str = ""
    loss: str = ""
    round: int = 0
    num_rounds: int | None = None
    elapsed_s: int = 0
    reason: str = ""
    hint: str = ""
    pending: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageView:
    """This is a stage that runs, in what `place` names.

    `rate` is in units a second; `metrics` are those of `step`. `prompts` are those done and all of
    them, where the unit is completions.
    """

    round: int
    stage: Stage
    attempt: int
    phase: str
    place: str
    elapsed_s: int
    done: int = 0
    total: int = 0
    unit: str = ""
    prompts: tuple[int, int] | None = None
    rate: float | None = None
    eta: Estimate | None = None
    step: int = 0
    metrics: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class StepView:
    """This is one stage of the round at hand. `time_s` is what it took, or takes so far; `usual_s`
    what it took in the rounds before.
    """

    name: str
    mark: Literal["done", "running", "waiting", "failed"]
    time_s: float | None = None
    usual_s: float | None = None


@dataclass(frozen=True)
class ProgressView:
    """Says how far the run is, its round at hand, and the stages that run.

    `share` is that of the rounds, 0 to 1; `ends` is the time of day at which the run is done,
    where that can be said.
    """

    round: int = 0
    num_rounds: int | None = None
    share: float | None = None
    run_eta: Estimate | None = None
    ends: str = ""
    place: str = ""
    steps: tuple[StepView, ...] = ()
    round_eta: Estimate | None = None
    stages: tuple[StageView, ...] = ()
    is_at_work: bool = False


@dataclass(frozen=True, slots=True)
class RewardStatistics:
    """Describes one round's rewards; every number may be NaN. `quantiles` are q05, q25, q50, q75,
    q95.
    """

    mean: float
    stderr: float
    quantiles: array[float]
    edges: array[float]
    counts: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class RoundRow:
    """This is one line of the table. `change` is the sign of the reward's change, 0 where that may
    be noise; `notices` are what its summaries say a person should know.
    """

    round: int
    cells: RoundCells
    change: int = 0
    rewards: RewardStatistics | None = None
    kl_initial: float | None = None
    kl_initial_stderr: float | None = None
    train_attempt: int | None = None
    is_running: bool = False
    is_closing: bool = False
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class RoundsView:
    """Holds all rounds, oldest first; `widths` are those of the widest cell of each column, and
    `looks` those of the columns that have figures.
    """

    rows: tuple[RoundRow, ...] = ()
    widths: tuple[int, ...] = ()
    looks: tuple[FigureLook | None, ...] = ()


@dataclass(frozen=True, eq=False)
class RewardView:
    """Holds the mean reward by round, one standard error below and above; NaN where there is
    none. In `unit` they are percentages, where all rewards are 0 or 1.
    """

    rounds: Sequence[float] = ()
    means: Sequence[float] = ()
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    unit: str = ""


@dataclass(frozen=True, eq=False)
class DistributionView:
    """Holds the rewards of a round, and those of the first round to compare them with."""

    round: int
    now: Distribution | None
    first: Distribution | None


@dataclass(frozen=True)
class CurveView:
    """This is a metric over the steps of a round, or over rounds where `is_by_round`.

    Where one point stands for several steps, `lows` and `highs` are their extremes; by round they
    are one standard error below and above.
    """

    name: str
    title: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] | None = None
    highs: Sequence[float] | None = None
    is_by_round: bool = False


@dataclass(frozen=True, eq=False)
class CurvesView:
    """Holds what a round's training logged. `num_steps` is 0 where it is not known."""

    round: int = 0
    num_steps: int = 0
    curves: tuple[CurveView, ...] = ()


@dataclass(frozen=True)
class DeviceView:
    """This is a GPU, or the host.

    Histories are fractions 0..1, oldest first, NaN where unknown; one entry is the mean of some
    seconds. `others` are processes that are not of this run.
    """

    name: str
    model: str = ""
    utilization: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    utilization_history: tuple[float, ...] = ()
    memory_history: tuple[float, ...] = ()
    lost: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachineView:
    """`age_s` is that of the newest reading where a newer one should be there, else 0."""

    gpus: tuple[DeviceView, ...] = ()
    host: DeviceView | None = None
    disk_free_bytes: int | None = None
    age_s: int = 0


@dataclass(frozen=True)
class Said:
    """This is one completion, and what was asked; both are raw and cut off where they are long.

    `what` says which one it is: `round 1`, `best`.
    """

    what: str
    prompt: str
    text: str
    reward: float | None


@dataclass(frozen=True)
class SaysView:
    """Holds what the policy said to the prompt at hand, and its best and worst in `round`.

    `num_prompts` is 0 until a round is scored. `first` is of the first round: its answer to the
    same prompt, or else to another one. `best` and `worst` are None until all of the round is read.
    """

    round: int = 0
    prompt_id: str = ""
    number: int = 0
    num_prompts: int = 0
    is_same_prompt: bool = False
    first: Said | None = None
    now: Said | None = None
    best: Said | None = None
    worst: Said | None = None


@dataclass(frozen=True, slots=True)
class CostView:
    """Adds up what the stages of all rounds took, as far as the journal knows; failed attempts are
    left out.

    `gpu_s` counts the GPUs that the run has taken for itself; `gpu_energy_j` is of all it used.
    """

    sampled_tokens: int = 0
    trained_tokens: int = 0
    gpu_s: float = 0.0
    gpu_energy_j: float = 0.0

    def __add__(self, other: CostView) -> CostView:
        return CostView(
            self.sampled_tokens + other.sampled_tokens,
            self.trained_tokens + other.trained_tokens,
            self.gpu_s + other.gpu_s,
            self.gpu_energy_j + other.gpu_energy_j,
        )


@dataclass(frozen=True)
class Happened:
    """This is something that happened: at what time, in which stage or round, and what."""

    t: float
    where: str
    text: str
    severity: Severity | Literal[""] = ""


@dataclass(frozen=True)
class EventsView:
    """Holds what happened, newest last, and the end of the output of the stage that runs, or ran
    last.

    `now` is what it does; `title` names it.
    """

    events: tuple[Happened, ...] = ()
    now: tuple[Happened, ...] = ()
    title: str = ""
    output: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class RunView:
    """This is the whole screen. `distribution` and `curves` are of the selected round, or the
    newest; `standing` says what can be asked of the run.
    """

    header: HeaderView
    standing: Standing | None = None
    progress: ProgressView = ProgressView()
    rounds: RoundsView = RoundsView()
    rewards: RewardView = RewardView()
    distribution: DistributionView | None = None
    curves: CurvesView = CurvesView()
    machine: MachineView = MachineView()
    events: EventsView = EventsView()
    says: SaysView = SaysView()
    notices: tuple[Notice, ...] = ()
    cost: CostView = CostView()

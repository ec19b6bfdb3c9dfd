"""Owns the settings of the losses, and which feedback each can learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from halos_backend.config.table import NonNegative, Positive, PositiveInt, Table


class Humanline(Table):
    """Humanline clamping of token log-ratios (ContextualAI/HALOs); the reference follows.

    GRPO's ratios are to this reference, too.
    """

    log_epsilon_p: Annotated[float, Field(lt=0)] = -1.0
    """Lower clamp of policy minus reference, per token."""
    log_epsilon_r: Annotated[float, Field(gt=0)] = 1.5
    """Upper clamp of policy minus reference, per token."""
    sync_every: PositiveInt = 1
    """Every so many steps the reference takes the weights that the policy has before the step: it
    is one to this many steps behind. A round begins with train.reference."""


class DPO(Table):
    """Direct Preference Optimization (Rafailov et al. 2023)."""

    kind: Literal["dpo"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class CDPO(Table):
    """Conservative DPO (Mitchell 2023): labels are wrong with a known probability."""

    kind: Literal["cdpo"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Assumed share of wrong labels."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class IPO(Table):
    """Identity Preference Optimization (Azar et al. 2023), on mean token log-ratios."""

    kind: Literal["ipo"]
    tau: Positive = 0.1
    """Regularization; the target margin is 1/(2 tau)."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class Robust(Table):
    """Robust DPO (Chowdhury et al. 2024): unbiased where labels are wrong with a known
    probability."""

    kind: Literal["robust"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Assumed share of wrong labels."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class EXO(Table):
    """Efficient Exact Optimization (Ji et al. 2024): the reverse KL between preferences."""

    kind: Literal["exo"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3
    """Probability that the label leaves to the rejected completion."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class APOZero(Table):
    """Anchored Preference Optimization (D'Oosterlinck et al. 2024) where chosen completions are
    better than the policy: they get likelier, rejected ones less likely."""

    kind: Literal["apo_zero"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class APODown(Table):
    """Anchored Preference Optimization (D'Oosterlinck et al. 2024) where chosen completions are
    worse than the policy: both get less likely, rejected ones more so."""

    kind: Literal["apo_down"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class SPPO(Table):
    """Self-Play Preference Optimization (Wu et al. 2024), where the chosen completion surely
    wins."""

    kind: Literal["sppo"]
    beta: Positive = 0.1
    """Log-ratios are drawn to 1/(2 beta) and its negative (1/beta is the paper's eta)."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class BCO(Table):
    """Binary Classifier Optimization (Jung et al. 2024) of pairs.

    Its reward shift is the mean implicit reward of a step, which takes one more forward pass.
    """

    kind: Literal["bco"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class SimPO(Table):
    """Simple Preference Optimization (Meng et al. 2024); needs no reference."""

    kind: Literal["simpo"]
    beta: Positive = 10.0
    """Scale of the length-normalized log-probabilities."""
    gamma_beta_ratio: NonNegative = 0.3
    """Target margin over beta."""


class SLiC(Table):
    """Sequence Likelihood Calibration (Zhao et al. 2023); needs no reference."""

    kind: Literal["slic"]
    delta: Positive = 1.0
    """Hinge margin between the log-probabilities of chosen and rejected."""
    lambda_coef: NonNegative = 0.1
    """Weight of the cross-entropy on the chosen completion."""


class KTO(Table):
    """Kahneman-Tversky Optimization (Ethayarajh et al. 2024).

    Its reference point is the mean log-ratio over all prompts of a step, each with a completion of
    another prompt.
    """

    kind: Literal["kto"]
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    desirable_weight: NonNegative = 1.0
    """Weight of desirable completions."""
    undesirable_weight: NonNegative = 1.0
    """Weight of undesirable completions."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class GRPO(Table):
    """Group Relative Policy Optimization (Shao et al. 2024), over whole groups."""

    kind: Literal["grpo"]
    beta: NonNegative = 0.01
    """Weight of the KL penalty to the reference."""
    kl_estimate: Literal["k3", "k2"] = "k3"
    """The estimate of the KL that is the penalty. `k3`: its gradient on policy is that of
    KL(reference || policy). `k2`, half the square of the log-ratio: it is that of
    KL(policy || reference)."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL penalty is. `reward`: a completion's reward is less by beta times the sum of its
    log-ratios of the policy that sampled and the reference, before advantages (RLOO)."""
    ratio: Literal["token", "sequence", "product"] = "token"
    """What a probability ratio is of. `token`: each token's own. `sequence`: one for a completion,
    the geometric mean of its tokens' (GSPO; clip_low 3e-4 and clip_high 4e-4 there). `product`: one
    for a completion, the product of its tokens' (RLOO)."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Probability ratios below 1 minus this gain nothing more."""
    clip_high: Positive = 0.2
    """Probability ratios above 1 plus this gain nothing more; more than clip_low is DAPO's
    clip-higher (0.28)."""
    dual_clip: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """With a negative advantage the loss is at most so many times its size (3 in Ye et al. 2020);
    absent, a large ratio has a large gradient."""
    cispo_cap: Positive | None = None
    """Take CISPO's loss instead of the clipped one: probability ratios, at most this (5 is usual),
    are weights without gradient of each token's log-probability. Absent is off."""
    sampler_ratio_cap: Positive | None = None
    """Weight each token by its probability in training over that in sampling, at most this (2 is
    usual): truncated importance sampling, which corrects for what the sampler computes otherwise.
    Both are of the policy that sampled, at temperature 1 and over the whole vocabulary, whatever
    changes the draw. Absent is off."""
    baseline: Literal["group_mean", "leave_one_out"] = "group_mean"
    """What a reward is better than: the mean of its group, or of the others in it (RLOO)."""
    scale_advantages: bool = True
    """Divide advantages by a standard deviation plus 1e-4; `false` is Dr. GRPO's and RLOO's."""
    scale_over: Literal["group", "round"] = "group"
    """Whose standard deviation scales advantages: of the group's rewards, or of all rewards of the
    round's feedback (Lite PPO)."""
    aggregation: Literal["token", "sequence", "constant"] = "token"
    """`token`: mean over all tokens of the step. `sequence`: mean of per-completion means.
    `constant`: sum over all tokens, divided by the step's completions times sample.max_new_tokens
    (Dr. GRPO)."""
    at_sampling_temperature: bool = False
    """Divide logits by the temperature that a completion was sampled at, for the log-probabilities
    of policy and reference, as TRL does; otherwise they are those at temperature 1."""
    humanline: Humanline | None = None
    """Clamp token log-ratios and re-sync the reference; absent is off."""


class SFT(Table):
    """Supervised fine-tuning on the chosen or desirable completions."""

    kind: Literal["sft"]


class CSFT(Table):
    """Conditional SFT (Korbak et al. 2023): a control text before a completion says its worth."""

    kind: Literal["csft"]
    chosen_prefix: str = Field(default="<|good|>", min_length=1)
    """Put before desirable completions in training, and before every completion when sampling."""
    rejected_prefix: str = Field(default="<|bad|>", min_length=1)
    """Put before undesirable completions in training."""


class BradleyTerry(Table):
    """Trains a reward model on preference pairs; the policy stays as it is."""

    kind: Literal["bradley_terry"]


Loss = Annotated[
    DPO
    | CDPO
    | IPO
    | Robust
    | EXO
    | APOZero
    | APODown
    | SPPO
    | BCO
    | SimPO
    | SLiC
    | KTO
    | GRPO
    | SFT
    | CSFT
    | BradleyTerry,
    Field(discriminator="kind"),
]

PairLoss = DPO | CDPO | IPO | Robust | EXO | APOZero | APODown | SPPO | BCO
"""Is a loss of pairs' log-ratios of policy and reference."""


def wants_sampler_logps(loss: Loss) -> bool:
    """Says whether the loss takes the sampler's log-probabilities of every token."""
    return isinstance(loss, GRPO) and loss.sampler_ratio_cap is not None


FEEDBACK_OF_LOSS: dict[str, tuple[str, ...]] = {
    "dpo": ("pairwise",),
    "cdpo": ("pairwise",),
    "ipo": ("pairwise",),
    "robust": ("pairwise",),
    "exo": ("pairwise",),
    "apo_zero": ("pairwise",),
    "apo_down": ("pairwise",),
    "sppo": ("pairwise",),
    "bco": ("pairwise",),
    "simpo": ("pairwise",),
    "slic": ("pairwise",),
    "kto": ("binary", "pairwise"),
    "grpo": ("scalar",),
    "sft": ("pairwise", "binary"),
    "csft": ("binary", "pairwise"),
    "bradley_terry": ("pairwise",),
}
"""Says which feedback each loss can learn from; the first is what `init` writes."""

LOSSES_WITH_REFERENCE = frozenset(
    {"dpo", "cdpo", "ipo", "robust", "exo", "apo_zero", "apo_down", "sppo", "bco", "kto", "grpo"}
)

"""Owns the settings of a run. The docstring under each field is its help text everywhere.

Reading files and wording errors is `load`'s; rules between fields are `check`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """A frozen table of settings; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=False, use_attribute_docstrings=True
    )


class PolicySettings(Table):
    """The model that is aligned."""

    path: str = Field(min_length=1)
    """Directory of a Hugging Face model (or a hub name). Fixed for the run's life."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type in checkpoints and while sampling; `auto` takes the model's own."""
    chat_template: str | None = None
    """A Jinja file that replaces the tokenizer's chat template, in every stage."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models you trust."""


class PromptsSettings(Table):
    """Where the prompts come from. Fixed for the run's life."""

    path: str = Field(min_length=1)
    """A .json, .jsonl, .csv or .parquet file, or the name of a Hugging Face dataset."""
    split: str = "train"
    """Split of a Hugging Face dataset. Never one that the result is judged by."""
    subset: str | None = None
    """Configuration name of a Hugging Face dataset."""
    prompt: str = "prompt"
    """Column that holds the prompt: text or a list of messages. `turns[0]` and `a.b` reach
    inside."""
    prompt_id: str | None = None
    """Column that holds a stable id; without it the row's number is the id."""
    system_prompt: str | None = None
    """A system message put before every prompt that has none."""
    max_tokens: PositiveInt | None = None
    """Prompts of more tokens are counted and skipped; by default what the policy's context
    leaves."""


class LoopSettings(Table):
    """How many rounds, of what, and what stays on disk."""

    num_rounds: PositiveInt | None = None
    """Rounds at most; without it the prompts decide."""
    num_prompts: PositiveInt | None = None
    """Prompts over all rounds at most (the scripts' TOTAL_PROMPTS)."""
    prompts_per_round: PositiveInt = 512
    """Prompts sampled in one round."""
    num_epochs: PositiveInt = 1
    """How often the prompts may be gone through."""
    seed: int = 0
    """Seed of everything random in the run. Fixed for the run's life."""
    keep_checkpoints: PositiveInt = 2
    """The newest checkpoints that stay; older ones go once a later one is proven."""
    keep_best: bool = True
    """Keep the checkpoint with the best mean reward, whatever its age."""


class SampleSettings(Table):
    """Sampling completions from the current policy."""

    engine: Literal["transformers"] = "transformers"
    """What generates."""
    group_size: PositiveInt = 8
    """Completions per prompt."""
    max_new_tokens: PositiveInt = 512
    """Longest completion, in tokens."""
    temperature: NonNegative = 0.7
    """Softmax temperature; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus: sample from the smallest set of tokens with this probability."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; left out of its text."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end a completion, besides the policy's own end tokens."""
    batch_size: PositiveInt = 32
    """Completions generated at a time. Changing it changes which rows share a batch."""


class RewardModelJudge(Table):
    """A sequence classifier gives the reward: one logit, two (the second), or ArmoRM's `score`."""

    kind: Literal["reward_model"]
    path: str = Field(min_length=1)
    """Directory (or hub name) of an AutoModelForSequenceClassification with a tokenizer."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type while scoring; `auto` is bfloat16 where the device has it, else float32."""
    batch_tokens: PositiveInt | None = None
    """Tokens per forward, padding included; by default 16,384 on a GPU and 1,024 on a CPU, whose
    caches larger batches overflow."""
    max_tokens: PositiveInt | None = None
    """Longer conversations are unscored; by default the model's context."""
    trust_remote_code: bool = False
    """Run Python code that comes with the reward model (ArmoRM needs it)."""


class FunctionJudge(Table):
    """A Python function gives the reward."""

    kind: Literal["function"]
    function: str = Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")
    """`file.py:name`; called as name(prompt, completion, row) -> float or None, where prompt is the
    list of messages, completion the text and row the prompt's other columns. None is unscored."""


Judge = Annotated[RewardModelJudge | FunctionJudge, Field(discriminator="kind")]


class PairwiseFeedback(Table):
    """Preference pairs of completions of one prompt."""

    kind: Literal["pairwise"]
    pairing: Literal["max", "min", "random"] = "max"
    """`max`: best against worst. `min`: the closest two whose margin reaches the threshold.
    `random`: disjoint random pairs."""
    threshold: NonNegative = 0.0
    """A pair's reward margin must be over this (`min`: at least this)."""


class BinaryFeedback(Table):
    """Each completion is desirable or not."""

    kind: Literal["binary"]
    threshold: Literal["mean", "median"] | float = "median"
    """Rewards of at least this are desirable: the round's mean or median, or a number."""


class ScalarFeedback(Table):
    """Whole groups with their rewards."""

    kind: Literal["scalar"]


FeedbackSettings = Annotated[
    PairwiseFeedback | BinaryFeedback | ScalarFeedback, Field(discriminator="kind")
]


class LabelSettings(Table):
    """Scoring completions and making feedback of the scores."""

    judge: Judge
    """What gives the reward."""
    feedback: FeedbackSettings
    """What training sees of the rewards."""


class Humanline(Table):
    """Humanline clamping of token log-ratios (ContextualAI/HALOs); the reference follows."""

    log_epsilon_p: Annotated[float, Field(lt=0)] = -1.0
    """Lower clamp of policy minus reference, per token."""
    log_epsilon_r: Annotated[float, Field(gt=0)] = 1.5
    """Upper clamp of policy minus reference, per token."""
    sync_every: PositiveInt = 1
    """The reference takes the policy's weights every so many steps."""


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
    """Kahneman-Tversky Optimization (Ethayarajh et al. 2024)."""

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
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Probability ratios below 1 minus this gain nothing more."""
    clip_high: Positive = 0.2
    """Probability ratios above 1 plus this gain nothing more."""
    scale_advantages: bool = True
    """Divide advantages by their group's standard deviation."""
    aggregation: Literal["token", "sequence"] = "token"
    """`token`: mean over all tokens of the step. `sequence`: mean of per-completion means."""
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
    DPO | CDPO | IPO | SimPO | SLiC | KTO | GRPO | SFT | CSFT | BradleyTerry,
    Field(discriminator="kind"),
]


class LoRA(Table):
    """Train low-rank adapters (peft); checkpoints hold the merged weights."""

    r: PositiveInt = 16
    """Rank."""
    alpha: Positive = 32.0
    """Scale of the update: alpha / r."""
    dropout: Fraction = 0.0
    """Dropout on the adapters' input."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get adapters, in peft's terms."""


class TrainSettings(Table):
    """Training the policy on the round's feedback."""

    loss: Loss
    """What is minimized."""
    lr: Positive = 5e-6
    """Peak learning rate."""
    batch_size: PositiveInt = 32
    """Examples per optimizer step over all processes: pairs, or completions for the losses that
    take one at a time (kto, grpo, sft, csft)."""
    microbatch_tokens: PositiveInt = 8192
    """Tokens per forward on one process, padding included; memory, not results, depend on it."""
    num_epochs: PositiveInt = 1
    """How often the round's feedback is gone through."""
    reference: str = "initial"
    """`initial` policy, `previous` (the policy at the start of the round), or a model's path."""
    optimizer: Literal["adamw"] = "adamw"
    """The optimizer."""
    weight_decay: NonNegative = 0.01
    """AdamW's decoupled weight decay."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's second moment."""
    adam_epsilon: Positive = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Shape of the learning rate after warm-up; linear and cosine end at 0."""
    schedule_scope: Literal["run", "round"] = "run"
    """Whether warm-up and decay span the run's prompt budget or each round."""
    warmup_frac: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the scope in which the learning rate rises."""
    keep_optimizer: bool = True
    """Carry AdamW's moments from round to round; otherwise each round starts them anew."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    lora: LoRA | None = None
    """Train adapters instead of all weights; absent is off."""
    save_every_steps: PositiveInt = 50
    """Steps between states from which a later attempt can go on in mid-round."""
    num_kl_completions: PositiveInt = 256
    """Completions of the round on which the KL to the initial policy is estimated."""


class LaunchSettings(Table):
    """Processes and threads."""

    num_processes: PositiveInt = 1
    """Processes of label and train; more than one start through torchrun."""
    num_threads: PositiveInt | None = None
    """torch threads of each process; by default the cores over the processes. Fixed at creation."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes the GPUs there are."""


class RunSettings(Table):
    """A run file."""

    policy: PolicySettings
    """The model that is aligned."""
    prompts: PromptsSettings
    """Where the prompts come from."""
    loop: LoopSettings = LoopSettings()
    """How many rounds, of what, and what stays on disk."""
    sample: SampleSettings = SampleSettings()
    """Sampling completions from the current policy."""
    label: LabelSettings
    """Scoring completions and making feedback of the scores."""
    train: TrainSettings
    """Training the policy on the round's feedback."""
    launch: LaunchSettings = LaunchSettings()
    """Processes and threads."""


FEEDBACK_OF_LOSS: dict[str, tuple[str, ...]] = {
    "dpo": ("pairwise",),
    "cdpo": ("pairwise",),
    "ipo": ("pairwise",),
    "simpo": ("pairwise",),
    "slic": ("pairwise",),
    "kto": ("binary", "pairwise"),
    "grpo": ("scalar",),
    "sft": ("pairwise", "binary"),
    "csft": ("binary", "pairwise"),
    "bradley_terry": ("pairwise",),
}
"""Which feedback each loss can learn from; the first is what `init` writes."""

LOSSES_WITH_REFERENCE = frozenset({"dpo", "cdpo", "ipo", "kto", "grpo"})

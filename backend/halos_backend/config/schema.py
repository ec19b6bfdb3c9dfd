"""Owns the settings of a run. The docstring under each field is its help text everywhere.

Reading files and wording errors is `load`'s; rules between fields are `check`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from halos_backend.config.api_judge import ApiJudge
from halos_backend.config.engines import EngineSettings, VllmSettings
from halos_backend.config.guards import DEFAULT_GUARDS, Guard, GuardName
from halos_backend.config.losses import Loss
from halos_backend.config.notify import NotifySettings
from halos_backend.config.table import Fraction, NonNegative, Positive, PositiveInt, Table


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
    held_out: str | None = Field(default=None, min_length=1)
    """More prompts, a file or a data set with the same columns, on which no round trains: the run's
    result is scored on them (loop.score_final)."""
    held_out_split: str = "test"
    """Split of `held_out`, where that is a Hugging Face dataset."""
    num_held_out: PositiveInt | None = None
    """The first so many prompts of `held_out`; absent is all."""


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
    """Keep the checkpoint with the best mean reward, whatever its age: that whose completions got
    it, in the round after it. Rewards of another judge than the newest do not count."""
    max_attempts: PositiveInt = 3
    """Attempts in a row of one stage that crash without progress on disk before the run waits for
    its owner. Attempts that made progress do not count."""
    overlap: bool = False
    """Score the completions of a round while it is still sampled. The rewards are the same; sampler
    and judge hold memory at the same time. Not with several processes."""
    score_final: bool | None = None
    """Whether the run ends with scoring its result: sampling and labelling with the last policy,
    as in a round, and no training. By default where prompts.held_out is named, or prompts are there
    that no round has taken, of which at most a round's are; `true` scores it on any prompts rather
    than not at all. The reward of each round is that of the policy before its training."""
    pause_after_each_round: bool = False
    """Pause at the end of every round, for people who want to look each time."""


class SampleSettings(Table):
    """Sampling completions from the current policy."""

    engine: Literal["auto", "vllm", "transformers"] = "auto"
    """What generates; `auto` is vLLM where it is installed for the device, else transformers."""
    python: str | None = Field(default=None, min_length=1)
    """Python of another environment to sample in (vLLM often needs its own); absent is ours."""
    vllm: VllmSettings = VllmSettings()
    """How vLLM samples, where it is the engine."""
    group_size: PositiveInt = 8
    """Completions per prompt."""
    max_new_tokens: PositiveInt = 512
    """Longest completion, in tokens."""
    temperature: NonNegative = 0.7
    """Softmax temperature; 0 is greedy."""
    temperatures: tuple[NonNegative, ...] = ()
    """Temperatures of the completions of a group, in turn: with two of them the first, third and
    fifth completion have the first one. Absent is sample.temperature for all."""
    top_k: PositiveInt | None = None
    """Sample from so many likeliest tokens, before top_p; absent is all. Tokens as likely as the
    last of them count too."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Sample from tokens of at least this share of the likeliest token's probability, before top_k;
    0 is off."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus: sample from the smallest set of tokens with this probability."""
    repetition_penalty: Positive = 1.0
    """Logits of tokens that are in the prompt or the completion are divided by this where they are
    positive and multiplied where they are not (Keskar et al. 2019), before the temperature; 1 is
    off."""
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens of a completion before it may end: end tokens are not sampled among them, and strings
    of `stop` do not count."""
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
    engine: Literal["transformers", "vllm"] = "transformers"
    """What scores; with `vllm`, transformers where vLLM is not installed for the device, does not
    have the model, or gives other rewards."""
    vllm: EngineSettings = EngineSettings()
    """How vLLM scores, where it is the engine."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type while scoring; `auto` is bfloat16 where the device has it, else float32."""
    batch_tokens: PositiveInt | None = None
    """Tokens per forward, padding (of which vLLM needs none) included; by default 16,384 on a GPU
    and 1,024 on a CPU, whose caches larger batches overflow."""
    max_tokens: PositiveInt | None = None
    """Longer conversations are unscored; by default the model's context."""
    trust_remote_code: bool = False
    """Run Python code that comes with the reward model (ArmoRM needs it)."""


class FunctionJudge(Table):
    """A Python function gives the reward."""

    kind: Literal["function"]
    function: str = Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")
    """`file.py:name`; called as name(prompt, completion, row) -> float or None, where prompt is the
    list of messages, completion the text and row the prompt's other columns. None is unscored. It
    is called for every completion, also for equal ones, since it may be random on purpose; in a
    process of its own, in its file's folder. An `async def` one is awaited for all completions of a
    prompt at once."""


Judge = Annotated[RewardModelJudge | FunctionJudge | ApiJudge, Field(discriminator="kind")]


class PairwiseFeedback(Table):
    """Preference pairs of completions of one prompt."""

    kind: Literal["pairwise"]
    pairing: Literal["max", "min", "random", "judged"] = "max"
    """`max`: best against worst. `min`: the closest two that are kept. `random`: disjoint random
    pairs, the same for the same seed; of an odd number one completion is left over. `judged`: those
    of which a judge with [label.judge.compare] found one better, with rewards 1 and 0. Of
    completions with equal rewards, and of pairs with equal margins, the first sampled is taken."""
    threshold: NonNegative = 0.0
    """A pair is kept when its reward margin is at least this and over 0, whatever the pairing.
    Rewards that differ by no more than the judge's rounding are equal, and make no pair."""


class BinaryFeedback(Table):
    """Each completion is desirable or not."""

    kind: Literal["binary"]
    threshold: Literal["mean", "median"] | float = "median"
    """Rewards of at least this are desirable: the round's mean or median, or a number. Rewards
    that are all equal are no feedback by mean or median."""


class ScalarFeedback(Table):
    """Whole groups with their rewards; those whose rewards are all equal are left out."""

    kind: Literal["scalar"]


FeedbackSettings = Annotated[
    PairwiseFeedback | BinaryFeedback | ScalarFeedback, Field(discriminator="kind")
]


class LabelSettings(Table):
    """Scoring completions and making feedback of the scores."""

    judge: Judge
    """What gives the reward."""
    python: str | None = Field(default=None, min_length=1)
    """Python of another environment to score in with vLLM; absent is ours."""
    feedback: FeedbackSettings
    """What training sees of the rewards."""
    cut_off: Literal["score", "penalty", "drop"] = "score"
    """What a completion is worth that reached sample.max_new_tokens before its end. `score`: what
    the judge says, like any other, as in HALOs for its losses and in TRL unless told otherwise for
    online DPO, PPO and GRPO. `penalty`: that less label.cut_off_penalty (TRL's missing_eos_penalty
    for online DPO and PPO). `drop`: it is scored, and left out of the feedback. Reward statistics
    are the judge's, before penalties."""
    cut_off_penalty: Positive = 1.0
    """What `label.cut_off = 'penalty'` subtracts, in the judge's unit."""
    overlong_tokens: PositiveInt | None = None
    """The last so many tokens before sample.max_new_tokens cost more and more: of
    label.overlong_penalty a completion loses the share of them that it takes, all of it when it was
    cut off (DAPO's soft overlong punishment, 4,096 of 20,480 tokens there). Absent is off."""
    overlong_penalty: Positive = 1.0
    """What a completion loses that takes all tokens of label.overlong_tokens, in the judge's
    unit."""


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
    keep_optimizer: bool | None = None
    """Whether AdamW's moments are carried from round to round. By default they are, but start anew
    when the loss's kind or the trainable parameters (train.lora) changed since the last trained
    round; `true` carries them over a change of the loss too, `false` starts every round anew. Other
    parameters have other moments, so those of a changed train.lora start anew whatever is set."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    kernels: Literal["torch", "liger"] = "torch"
    """What computes RMSNorm and SwiGLU in train; `liger` is for GPUs and needs halos-tui[liger]."""
    lora: LoRA | None = None
    """Train adapters instead of all weights; absent is off."""
    save_every_steps: PositiveInt = 50
    """Steps between states from which a later attempt can go on in mid-round."""
    mask_cut_off: bool = False
    """Whether a completion that was cut off gives no loss. Its reward still counts among those of
    its group; a pair with one is left out. `true` is DAPO's overlong filtering; HALOs, verl and TRL
    (mask_truncated_completions for GRPO) train on it unless told otherwise."""
    num_kl_completions: PositiveInt = 256
    """Completions of the round on which the KL to the initial policy (`kl_initial`) is estimated:
    the mean, over completions, of KL(policy || initial) summed over their tokens, each exact over
    the vocabulary at temperature 1. With sample.temperature = 1, sample.top_p = 1 and nothing else
    that changes what is sampled that is the KL of the two policies; otherwise completions are
    likelier ones than the policy's own, and it is the divergence along those. Its standard error is
    `kl_initial_stderr`."""


class LaunchSettings(Table):
    """Processes and threads."""

    num_processes: PositiveInt = 1
    """Processes of label and train; more than one start through torchrun. A judge that is a
    function, or scores with vLLM, needs one."""
    sharding: Literal["none", "fsdp2"] = "none"
    """`fsdp2` divides weights, gradients and moments of train over its processes, for policies that
    one GPU cannot train; `none` gives each process all of them."""
    num_threads: PositiveInt | None = None
    """torch threads of each process; by default the cores over the processes. Fixed at creation."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` takes the GPUs there are."""
    devices: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Numbers of the GPUs that the run takes, reserved against other runs; absent is all, and
    reserves nothing."""
    when_devices_busy: Literal["refuse", "queue"] = "refuse"
    """What a run does whose `devices` another run holds: refuse to start, or wait for them."""
    warm_workers: Literal["auto"] | StrictBool = "auto"
    """Keep the stages' programs and their models loaded between rounds. Faster rounds for more
    memory: that of sampler, reward model and trainer together. `auto` does so where that fits, by
    the sizes of the models and, from the second round on, by the memory that the stages took.
    Stages of several processes, and second attempts, still start anew."""
    stall_timeout_s: Positive = 900.0
    """Seconds without an event after which a stage counts as stalled and is started again."""
    load_timeout_s: Positive = 1800.0
    """The same while a stage starts and loads its models."""


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
    guards: dict[GuardName, Guard] = DEFAULT_GUARDS
    """Rules that stop the run when a number goes wrong, each under a name of its own."""
    notify: NotifySettings = NotifySettings()
    """Who is told when the run stops or needs its owner."""

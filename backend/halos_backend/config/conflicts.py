"""Owns the rules between settings: values that are each allowed and cannot stand together.

Each reason says what to write instead. Single values are the schema's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from halos_backend.config.api_judge import ApiJudge, find_api_conflicts
from halos_backend.config.engines import (
    NEEDED_WHILE_SAMPLING,
    NEEDED_WHILE_SCORING,
    OURS_WHILE_SAMPLING,
    OURS_WHILE_SCORING,
    EngineSettings,
    VllmSettings,
)
from halos_backend.config.guards import find_guard_conflicts
from halos_backend.config.kernels import find_kernel_conflicts
from halos_backend.config.losses import (
    CSFT,
    FEEDBACK_OF_LOSS,
    GRPO,
    KTO,
    LOSSES_WITH_REFERENCE,
    BradleyTerry,
)
from halos_backend.config.schema import PairwiseFeedback, RewardModelJudge, RunSettings

Conflict = tuple[str, str]
"""Names the setting to change, and says why."""


def find_conflicts(settings: RunSettings) -> list[Conflict]:
    """Yields every rule that the settings break, as (dotted path, reason)."""
    return [conflict for rule in RULES for conflict in rule(settings)]


def _feedback_fits_loss(settings: RunSettings) -> Iterator[Conflict]:
    loss, feedback = settings.train.loss.kind, settings.label.feedback.kind
    fitting = FEEDBACK_OF_LOSS[loss]
    if feedback not in fitting:
        wanted = " or ".join(f"'{kind}'" for kind in fitting)
        losses = ", ".join(name for name, kinds in FEEDBACK_OF_LOSS.items() if feedback in kinds)
        yield (
            "label.feedback.kind",
            f"train.loss.kind = '{loss}' cannot learn from {feedback} feedback: write {wanted} here"
            f" ({feedback} feedback is for {losses})",
        )


def _groups_can_be_compared(settings: RunSettings) -> Iterator[Conflict]:
    size, feedback = settings.sample.group_size, settings.label.feedback.kind
    if feedback != "binary" and size < 2:
        yield (
            "sample.group_size",
            f"{feedback} feedback compares the completions of a prompt: write 2 or more",
        )
    several = settings.sample.temperatures
    if not several and settings.sample.temperature == 0 and size > 1:
        yield (
            "sample.temperature",
            f"at 0 a prompt's completions are all the same, so a group of {size} says no more than"
            " one of them: write more than 0, for example 0.7",
        )
    num_greedy = sum(several[k % len(several)] == 0 for k in range(size)) if several else 0
    if num_greedy > 1:
        yield (
            "sample.temperatures",
            f"{num_greedy} of a group's {size} completions have temperature 0 and are all the same:"
            " write 0 for at most one of them",
        )


def _batch_divides(settings: RunSettings) -> Iterator[Conflict]:
    size, processes = settings.train.batch_size, settings.launch.num_processes
    if size % processes:
        yield (
            "train.batch_size",
            f"{size} examples cannot be shared by launch.num_processes = {processes}:"
            f" write {_nearest_multiples(size, processes)}",
        )
    group = settings.sample.group_size
    if isinstance(settings.train.loss, GRPO) and size % group:
        yield (
            "train.batch_size",
            f"grpo trains on whole groups, and {size} completions are not a number of groups of"
            f" sample.group_size = {group}: write {_nearest_multiples(size, group)}",
        )


def _round_within_budget(settings: RunSettings) -> Iterator[Conflict]:
    loop = settings.loop
    if loop.num_prompts is not None and loop.prompts_per_round > loop.num_prompts:
        yield (
            "loop.prompts_per_round",
            f"{loop.prompts_per_round} prompts in one round are more than loop.num_prompts ="
            f" {loop.num_prompts} over all rounds: write at most {loop.num_prompts}",
        )


def _overlap_is_possible(settings: RunSettings) -> Iterator[Conflict]:
    processes = settings.launch.num_processes
    if settings.loop.overlap and processes > 1:
        yield (
            "loop.overlap",
            f"the {processes} processes of launch.num_processes score together, and only once"
            " sampling is done: write false, or launch.num_processes = 1",
        )


def _reference_has_effect(settings: RunSettings) -> Iterator[Conflict]:
    train = settings.train
    if train.loss.kind not in LOSSES_WITH_REFERENCE:
        if train.reference != "initial":
            yield (
                "train.reference",
                f"train.loss.kind = '{train.loss.kind}' has no reference: take the line out",
            )
    elif getattr(train.loss, "humanline", None) is not None and train.reference != "previous":
        yield (
            "train.reference",
            "humanline gives the reference the policy's weights as training goes on, so it cannot"
            f" stay '{train.reference}': write 'previous'",
        )


def _loss_can_learn(settings: RunSettings) -> Iterator[Conflict]:
    loss = settings.train.loss
    if isinstance(loss, CSFT) and loss.chosen_prefix == loss.rejected_prefix:
        yield (
            "train.loss.rejected_prefix",
            "the same text as train.loss.chosen_prefix tells good from bad for nobody: write"
            " another",
        )
    if isinstance(loss, KTO) and loss.desirable_weight == 0 and loss.undesirable_weight == 0:
        yield (
            "train.loss.desirable_weight",
            "both weights are 0, so nothing would be learned: write more than 0 for one of them",
        )
    if loss.kind == "bradley_terry" and settings.train.lora is not None:
        yield (
            "train.lora",
            "bradley_terry trains a new reward head, which adapters leave out: take [train.lora]"
            " out",
        )


def _grpo_has_effect(settings: RunSettings) -> Iterator[Conflict]:
    loss, default = settings.train.loss, GRPO(kind="grpo")
    if not isinstance(loss, GRPO):
        return
    out = "take the line out"
    if loss.beta == 0 and loss.kl_estimate != default.kl_estimate:
        yield "train.loss.kl_estimate", f"has no effect with train.loss.beta = 0: {out}"
    if loss.kl_in == "reward":
        instead = f"with train.loss.kl_in = 'reward': {out}"
        if loss.beta == 0:
            yield "train.loss.kl_in", f"has no effect with train.loss.beta = 0: {out}"
        if loss.kl_estimate != default.kl_estimate:
            yield "train.loss.kl_estimate", f"is of a KL in the loss, and has no effect {instead}"
        if loss.humanline is not None:
            reason = (
                "has a reference that moves with the policy, whose KL no reward of the round has:"
            )
            yield "train.loss.humanline", f"{reason} write train.loss.kl_in = 'loss'"
        if settings.train.mask_cut_off:
            yield (
                "train.mask_cut_off",
                "leaves completions out whose KL their group's advantages need: write"
                " train.loss.kl_in = 'loss', or take it out",
            )
    if not loss.scale_advantages and loss.scale_over != default.scale_over:
        reason = f"has no effect with train.loss.scale_advantages = false: {out}"
        yield "train.loss.scale_over", reason
    if loss.cispo_cap is not None:
        for name in ("clip_low", "clip_high", "dual_clip"):
            if getattr(loss, name) != getattr(default, name):
                yield f"train.loss.{name}", f"has no effect with train.loss.cispo_cap: {out}"
        if loss.humanline is not None:
            reason = "clamps gradients, and CISPO's ratios have none: take train.loss.cispo_cap out"
            yield "train.loss.humanline", reason
    if loss.sampler_ratio_cap is not None and loss.humanline is not None:
        yield (
            "train.loss.sampler_ratio_cap",
            "needs ratios to the policy that sampled, and with humanline they are to the reference:"
            f" {out}",
        )


def _temperature_of_logps_is_one_of_sampling(settings: RunSettings) -> Iterator[Conflict]:
    loss, sample = settings.train.loss, settings.sample
    if not getattr(loss, "at_sampling_temperature", False):
        return
    temperatures = sample.temperatures or (sample.temperature,)
    if 0 in temperatures:
        yield (
            "train.loss.at_sampling_temperature",
            "logits cannot be divided by temperature 0, which is among those of [sample]: write"
            " false, or take it out there",
        )
    elif set(temperatures) == {1.0}:
        reason = "has no effect where completions are sampled at temperature 1: take the line out"
        yield "train.loss.at_sampling_temperature", reason


def _stops_stop(settings: RunSettings) -> Iterator[Conflict]:
    sample = settings.sample
    if "" in sample.stop:
        yield ("sample.stop", "an empty text would end every completion at once: take it out")
    if sample.min_new_tokens > sample.max_new_tokens:
        yield (
            "sample.min_new_tokens",
            f"a completion of at least {sample.min_new_tokens} tokens is longer than"
            f" sample.max_new_tokens = {sample.max_new_tokens}: lower it",
        )


def _drawing_has_effect(settings: RunSettings) -> Iterator[Conflict]:
    sample = settings.sample
    temperatures = sample.temperatures
    default = type(sample).model_fields["temperature"].default
    if temperatures and sample.temperature != default:
        yield (
            "sample.temperature",
            "has no effect with sample.temperatures, which has a completion's own: take one of them"
            f" out, or write {default} here, which is what stands there without the line",
        )
    if len(temperatures) > sample.group_size:
        yield (
            "sample.temperatures",
            f"{len(temperatures)} temperatures are more than the sample.group_size ="
            f" {sample.group_size} completions that could have them: write at most as many",
        )
    if not any(temperatures or (sample.temperature,)):
        for name, off in (("top_k", None), ("min_p", 0.0)):
            if getattr(sample, name) != off:
                yield (
                    f"sample.{name}",
                    "has no effect at temperature 0, which takes the likeliest token: take the line"
                    " out",
                )


def _sampler_fits_engine(settings: RunSettings) -> Iterator[Conflict]:
    sample, vllm = settings.sample, settings.sample.vllm
    if sample.engine == "transformers" and vllm != VllmSettings():
        yield (
            "sample.vllm",
            "has no effect with sample.engine = 'transformers': take one of them out",
        )
    for name in vllm.set_arguments:
        path = f"sample.vllm.arguments.{name}"
        if name in OURS_WHILE_SAMPLING:
            yield path, f"is set by {OURS_WHILE_SAMPLING[name]}: write it there"
        elif name in NEEDED_WHILE_SAMPLING:
            yield path, "is what the sample stage itself depends on: take it out"


def _judge_fits_engine(settings: RunSettings) -> Iterator[Conflict]:
    label, judge = settings.label, settings.label.judge
    if not isinstance(judge, RewardModelJudge) or judge.engine != "vllm":
        if label.python is not None:
            yield (
                "label.python",
                "has an effect only where label.judge.engine = 'vllm': take the line out",
            )
        if isinstance(judge, RewardModelJudge) and judge.vllm != EngineSettings():
            yield (
                "label.judge.vllm",
                "has no effect with label.judge.engine = 'transformers': take one of them out",
            )
        return
    for name in judge.vllm.set_arguments:
        path = f"label.judge.vllm.arguments.{name}"
        if name in OURS_WHILE_SCORING:
            yield path, f"is set by {OURS_WHILE_SCORING[name]}: write it there"
        elif name in NEEDED_WHILE_SCORING:
            yield path, "is what the label stage itself depends on: take it out"


def _api_judge_can_score(settings: RunSettings) -> Iterator[Conflict]:
    label, feedback = settings.label, settings.label.feedback
    if isinstance(label.judge, ApiJudge):
        yield from find_api_conflicts(label.judge)
    is_comparing = isinstance(label.judge, ApiJudge) and label.judge.compare is not None
    if not isinstance(feedback, PairwiseFeedback) or feedback.pairing != "judged":
        return
    if not is_comparing:
        yield (
            "label.feedback.pairing",
            "'judged' needs a judge that compares: write a table [label.judge.compare], or 'max'",
        )
    if feedback.threshold != 0:
        yield (
            "label.feedback.threshold",
            "has no effect with pairing = 'judged', whose pairs are the judge's: take it out",
        )
    if label.cut_off == "penalty":
        yield (
            "label.cut_off",
            "'penalty' has no effect with pairing = 'judged', whose pairs are the judge's: write"
            " 'score' or 'drop'",
        )


def _scoring_has_effect(settings: RunSettings) -> Iterator[Conflict]:
    prompts = settings.prompts
    if prompts.held_out is None:
        for name in ("held_out_split", "num_held_out"):
            if getattr(prompts, name) != type(prompts).model_fields[name].default:
                yield f"prompts.{name}", "has no effect without prompts.held_out: take it out"
    if settings.train.loss.kind == "bradley_terry":
        reason = "bradley_terry leaves the policy as it is, so there is none to score: take it out"
        if prompts.held_out is not None:
            yield "prompts.held_out", reason
        if settings.loop.score_final:
            yield "loop.score_final", reason


def _cut_off_has_effect(settings: RunSettings) -> Iterator[Conflict]:
    label = settings.label
    default = type(label).model_fields["cut_off_penalty"].default
    if label.cut_off != "penalty" and label.cut_off_penalty != default:
        yield (
            "label.cut_off_penalty",
            f"has no effect with label.cut_off = '{label.cut_off}': write 'penalty' there, or take"
            " the line out",
        )
    longest, overlong = settings.sample.max_new_tokens, label.overlong_tokens
    default = type(label).model_fields["overlong_penalty"].default
    if overlong is None and label.overlong_penalty != default:
        yield (
            "label.overlong_penalty",
            "has no effect without label.overlong_tokens: write it, or take the line out",
        )
    if overlong is not None and overlong > longest:
        yield (
            "label.overlong_tokens",
            f"{overlong} are more than sample.max_new_tokens = {longest}, so that every completion"
            " would be too long: lower it",
        )
    if label.cut_off == "drop" and settings.train.mask_cut_off:
        yield (
            "train.mask_cut_off",
            "has no effect with label.cut_off = 'drop', which leaves none in the feedback: take one"
            " of them out",
        )


def _engines_get_devices(settings: RunSettings) -> Iterator[Conflict]:
    vllm, devices = settings.sample.vllm, settings.launch.devices
    needed = (vllm.replicas or 1) * vllm.tensor_parallel_size
    if settings.sample.engine != "transformers" and devices and needed > len(devices):
        key = "replicas" if vllm.replicas else "tensor_parallel_size"
        yield (
            f"sample.vllm.{key}",
            f"{vllm.replicas or 1} engines of {vllm.tensor_parallel_size} GPUs each need {needed},"
            f" and launch.devices names {len(devices)}: lower it",
        )
    judge = settings.label.judge
    spread = judge.vllm.tensor_parallel_size if isinstance(judge, RewardModelJudge) else 1
    if devices and spread > len(devices):
        yield (
            "label.judge.vllm.tensor_parallel_size",
            f"an engine of {spread} GPUs needs as many, and launch.devices names {len(devices)}:"
            " lower it",
        )


def _guards_can_trip(settings: RunSettings) -> Iterator[Conflict]:
    for name, guard in settings.guards.items():
        yield from find_guard_conflicts(name, guard)


def _devices_suffice(settings: RunSettings) -> Iterator[Conflict]:
    launch = settings.launch
    devices = launch.devices
    if devices is None:
        return
    twice = sorted({number for number in devices if devices.count(number) > 1})
    if not devices:
        yield "launch.devices", "names no GPU: take the line out, or write device = 'cpu' instead"
    elif launch.device == "cpu":
        yield "launch.devices", "has no effect with launch.device = 'cpu': take one of them out"
    elif twice:
        yield "launch.devices", f"names GPU {twice[0]} twice: write it once"
    elif launch.num_processes > len(devices):
        yield (
            "launch.num_processes",
            f"{launch.num_processes} processes need a GPU each, and launch.devices names"
            f" {len(devices)}: write at most {len(devices)}",
        )


def _sharding_is_possible(settings: RunSettings) -> Iterator[Conflict]:
    train, launch = settings.train, settings.launch
    if launch.sharding == "none":
        return
    instead = "or write launch.sharding = 'none'"
    if launch.num_processes == 1:
        yield (
            "launch.sharding",
            f"'{launch.sharding}' divides the trainer over several processes, and"
            f" launch.num_processes is 1: write 2 or more there, {instead}",
        )
    if train.lora is not None:
        yield (
            "launch.sharding",
            f"'{launch.sharding}' trains all weights, not adapters: take train.lora out, {instead}",
        )
    if getattr(train.loss, "humanline", None) is not None:
        yield (
            "launch.sharding",
            f"'{launch.sharding}' has no reference that follows the policy: take"
            f" train.loss.humanline out, {instead}",
        )
    if isinstance(train.loss, BradleyTerry):
        yield (
            "launch.sharding",
            f"'{launch.sharding}' trains policies, not reward models: {instead[3:]}",
        )


def _notified_program_can_be_found(settings: RunSettings) -> Iterator[Conflict]:
    program = (settings.notify.command or ("true",))[0]
    if not program or ("/" in program and not program.startswith("/")):
        yield (
            "notify.command",
            f"'{program}' is looked for by a supervisor that works elsewhere: write a program's"
            " name or its absolute path first",
        )


RULES: tuple[Callable[[RunSettings], Iterator[Conflict]], ...] = (
    _feedback_fits_loss,
    _groups_can_be_compared,
    _batch_divides,
    _round_within_budget,
    _overlap_is_possible,
    _reference_has_effect,
    _loss_can_learn,
    _grpo_has_effect,
    _temperature_of_logps_is_one_of_sampling,
    _stops_stop,
    _drawing_has_effect,
    _sampler_fits_engine,
    _judge_fits_engine,
    _api_judge_can_score,
    _cut_off_has_effect,
    _scoring_has_effect,
    _engines_get_devices,
    _guards_can_trip,
    _devices_suffice,
    _sharding_is_possible,
    find_kernel_conflicts,
    _notified_program_can_be_found,
)


def _nearest_multiples(number: int, divisor: int) -> str:
    """Returns the multiples of `divisor` on both sides of `number`, without 0."""
    below = number // divisor * divisor
    return f"{below} or {below + divisor}" if below else str(divisor)

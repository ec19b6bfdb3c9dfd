"""Owns the settings of a judge behind an API, the placeholders of its template, and its rules.

`stages.label.api` makes the calls.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from halos_backend.config.table import NonNegative, Positive, PositiveInt, Table
from halos_backend.errors import UsageError

PACKAGE = "openai"
EXTRA = "pip install 'halos-tui[judge]'"
PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*(?:\.[^{}\s]+)?)\}")
"""Matches `{name}` and `{row.NAME}`. Other braces are text, those of JSON in a template too."""
ROW = "row."
PLACEHOLDERS = ("prompt", "completion", "criteria", "score_min", "score_max", "answer_format")

TEMPLATE = """\
Rate the answer to the request below.

<request>
{prompt}
</request>

<answer>
{completion}
</answer>

Rate each of the following from {score_min} to {score_max}:
{criteria}

{answer_format}
"""

DECIDING = (
    "model",
    "template",
    "compare",
    "criteria",
    "score_min",
    "score_max",
    "temperature",
    "reasoning_effort",
    "max_answer_tokens",
)
"""Names the settings that decide rewards; the others say how the API is called."""

PAIR_PLACEHOLDERS = ("prompt", "first", "second", "criteria", "answer_format")
PAIR_TEMPLATE = """\
Compare two answers to the request below.

<request>
{prompt}
</request>

<first_answer>
{first}
</first_answer>

<second_answer>
{second}
</second_answer>

Which answer is better? What counts:
{criteria}

{answer_format}
"""

Finite = Annotated[float, Field(allow_inf_nan=False)]
CriterionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Criterion(Table):
    """One thing that the judge scores."""

    description: str = Field(min_length=1)
    """What is scored, in words that the judge reads where the template has {criteria}."""
    weight: Positive = 1.0
    """Its share in the reward, which is the weighted mean of the scores."""


DEFAULT_CRITERIA = {
    "score": Criterion(description="how well the answer does what the request asks for")
}


class Comparing(Table):
    """The judge compares two completions of a prompt at a time; the reward is the win rate."""

    template: str = Field(default=PAIR_TEMPLATE, min_length=1)
    """What the judge reads: as label.judge.template, with {first} and {second} for the two."""
    opponents: Literal["one", "all"] = "one"
    """`one`: each completion meets the group's first. `all`: each meets every other."""
    max_matches: PositiveInt | None = None
    """Matches of a group at most, where opponents = 'all': the first of a tournament, in whose
    turns each completion meets one other; absent is no limit."""
    both_orders: bool = True
    """Ask in both orders. Where the answers disagree, the match is a tie and counts as a flip."""


class ApiJudge(Table):
    """A language model behind an OpenAI-compatible API gives the reward. Needs halos-tui[judge]."""

    kind: Literal["api"]
    model: str = Field(min_length=1)
    """The model's name, as the server knows it."""
    base_url: str = Field(pattern=r"^https?://[^\s@]+$")
    """Where the API is, for example https://api.openai.com/v1, or http://HOST:8000/v1 of a vLLM
    server. Prompts and completions are sent there."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; absent sends none."""
    template: str = Field(default=TEMPLATE, min_length=1)
    """What the judge reads. {prompt}, {completion}, {criteria}, {score_min}, {score_max} and
    {answer_format} stand for what they name, {row.NAME} for a column of the prompt's row; other
    braces are text. Without {answer_format} that stands at the end."""
    compare: Comparing | None = None
    """Compare completions of a prompt instead of scoring each; absent is off."""
    criteria: dict[CriterionName, Criterion] = DEFAULT_CRITERIA
    """What is scored, each under a name of its own; by default one, called score."""
    score_min: Finite = 1.0
    """The lowest score."""
    score_max: Finite = 10.0
    """The highest score."""
    response_format: Literal["auto", "json_schema", "none"] = "auto"
    """Whether the server is asked to hold answers to a JSON schema. `auto` asks for it until the
    server refuses; then, as with `none`, answers are read by a strict pattern."""
    temperature: NonNegative | None = None
    """The judge's softmax temperature; absent is the server's own, as reasoning models want it."""
    reasoning_effort: str | None = Field(default=None, min_length=1)
    """How long a reasoning model thinks, in its server's words; absent is not sent."""
    max_answer_tokens: PositiveInt | None = None
    """Tokens of an answer at most, thinking included; absent is the server's own limit."""
    input_price: NonNegative | None = None
    """Price of a million tokens of prompts, in any currency; absent says no cost."""
    output_price: NonNegative | None = None
    """Price of a million tokens of answers, thinking included."""
    max_cost: Positive | None = None
    """The run pauses before its answers have cost more than this; absent is no limit."""
    max_tokens: PositiveInt | None = None
    """The run pauses before its calls have taken more tokens than this, prompts and answers
    together; absent is no limit."""
    concurrency: PositiveInt = 16
    """Calls under way at once."""
    requests_per_minute: PositiveInt | None = None
    """Calls begun in a minute at most; absent is no limit."""
    tokens_per_minute: PositiveInt | None = None
    """Tokens in a minute at most, of prompts and answers; absent is no limit."""
    timeout_s: Positive = 120.0
    """Seconds after which a call without its whole answer is given up, and made again."""
    max_tries: PositiveInt = 8
    """Calls for one completion at most, where they fail. What fails is not the answer's text."""
    retry_delay_s: Positive = 1.0
    """Seconds before a failed call is made again, doubled each time, with jitter. A longer
    retry-after of the server holds instead."""


def check_api(judge: ApiJudge, environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the key; None where none is to be sent.

    Raises UsageError where a call could not be made: without its client, or the key's variable.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise UsageError(
            f"label.judge.kind = 'api', and {PACKAGE} is not installed", fix=f"{EXTRA} adds it"
        )
    if judge.api_key_env is None:
        return None
    key = environment.get(judge.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"label.judge.api_key_env: the environment variable {judge.api_key_env} is not set",
            fix=f"export {judge.api_key_env}=KEY where the run is started or resumed",
        )
    return key


def find_api_conflicts(judge: ApiJudge) -> Iterator[tuple[str, str]]:
    """Says what cannot stand together in the judge's settings, as (dotted path, reason)."""
    if judge.compare is None:
        yield from _template_problems(
            "label.judge.template", judge.template, PLACEHOLDERS, needed=("completion",)
        )
    else:
        yield from _template_problems(
            "label.judge.compare.template",
            judge.compare.template,
            PAIR_PLACEHOLDERS,
            needed=("first", "second"),
        )
        yield from _without_effect(judge, judge.compare)
    if judge.score_min >= judge.score_max:
        yield (
            "label.judge.score_max",
            f"{judge.score_max:g} is not above label.judge.score_min = {judge.score_min:g}: write"
            " more",
        )
    yield from _budget_problems(judge)
    if not judge.criteria:
        yield (
            "label.judge.criteria",
            "names nothing to score: write a table [label.judge.criteria.NAME], or take it out",
        )


def _without_effect(judge: ApiJudge, compare: Comparing) -> Iterator[tuple[str, str]]:
    for name in ("template", "score_min", "score_max"):
        if getattr(judge, name) != type(judge).model_fields[name].default:
            yield (
                f"label.judge.{name}",
                "has no effect with [label.judge.compare], which asks who wins: take it out",
            )
    for name, criterion in judge.criteria.items():
        if criterion.weight != 1:
            yield (
                f"label.judge.criteria.{name}.weight",
                "has no effect with [label.judge.compare], which asks who wins: take it out",
            )
    if compare.max_matches is not None and compare.opponents == "one":
        yield (
            "label.judge.compare.max_matches",
            "has no effect with opponents = 'one': write 'all' there, or take it out",
        )


def _budget_problems(judge: ApiJudge) -> Iterator[tuple[str, str]]:
    prices = {"input_price": judge.input_price, "output_price": judge.output_price}
    missing = [f"label.judge.{name}" for name, price in prices.items() if price is None]
    if judge.max_cost is not None and missing:
        yield (
            "label.judge.max_cost",
            f"cannot be kept without {' and '.join(missing)}: write what a million tokens cost",
        )
    elif len(missing) == 1:
        yield missing[0], "is missing, and the other price alone says no cost: write both or none"
    budgets = {"max_cost": judge.max_cost, "max_tokens": judge.max_tokens}
    for name, limit in budgets.items():
        if limit is not None and judge.max_answer_tokens is None:
            yield (
                f"label.judge.{name}",
                "can be kept only where an answer's length is limited: write"
                " label.judge.max_answer_tokens too",
            )


def _template_problems(
    path: str, template: str, placeholders: Sequence[str], *, needed: Sequence[str]
) -> Iterator[tuple[str, str]]:
    names = PLACEHOLDER.findall(template)
    known = ", ".join(f"{{{name}}}" for name in (*placeholders, "row.NAME"))
    for name in dict.fromkeys(names):
        if name not in placeholders and not name.startswith(ROW):
            near = difflib.get_close_matches(name, placeholders, n=1)
            meant = f"did you mean {{{near[0]}}}? " if near else ""
            yield path, f"has an unknown placeholder {{{name}}}: {meant}There are {known}"
            return
    for name in needed:
        if name not in names:
            yield path, f"has no {{{name}}}, so the judge would not see it: write it"

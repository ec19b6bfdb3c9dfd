"""Owns one try of one call: what is sent, and what became of it. Trying again is `calls`'s.

The client is that of `openai`, which retries nothing here. Bodies are read by us: a proxy's page of
HTML or half an object is a failed call, not an answer.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import openai

from halos_backend import clock
from halos_backend.config.api_judge import ApiJudge
from halos_backend.errors import StageError
from halos_backend.records import BAD_JSON
from halos_backend.stages.label.api.question import Question, answer_schema
from halos_backend.stages.label.judge import short_reason

AGAIN = frozenset({408, 409, 429})
"""Lists statuses after which a call may succeed, besides those from 500 on."""
FOR_ALL = frozenset({402, 404})
"""Lists statuses that say of every call alike that it cannot succeed: no credit, no such model."""
NO_KEY = "none"


class Usage(msgspec.Struct, frozen=True):
    """Counts tokens, as the server bills them; those of thinking are in the answer's."""

    prompt_tokens: int
    completion_tokens: int


class Said(msgspec.Struct, frozen=True):
    """Is what the judge said. A thinking model's `reasoning_content` is not read."""

    content: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """Is the answer, and how it ended: `length` is cut off."""

    message: Said
    finish_reason: str | None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """Is what a server answers; one choice is asked for."""

    choices: list[Choice]
    usage: Usage | None = None


@dataclass(frozen=True)
class Failed:
    """Says that a call brought no answer, and another may; `after_s` is the server's wish."""

    reason: str
    after_s: float | None = None
    is_busy: bool = False


@dataclass(frozen=True)
class Declined:
    """Says that the server does not take this question, however often it is asked."""

    reason: str


Tried = ChatCompletion | Failed | Declined


class Endpoint:
    """Makes calls to one server. It is used by one event loop."""

    def __init__(self, judge: ApiJudge, key: str | None) -> None:
        self._judge = judge
        self._key = key
        self._uses_schema = judge.response_format != "none"
        self._has_schema_worked = False
        self.has_refused_schema = False
        self._client = openai.AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=judge.base_url,
            timeout=judge.timeout_s,
            max_retries=0,
        )
        self._client_arguments: dict[str, Any] = (
            {"extra_headers": {"Authorization": openai.Omit()}} if key is None else {}
        )

    async def ask(self, question: Question) -> Tried:
        """Makes one call, or two where the server refuses a schema.

        Raises StageError for what is wrong with all calls alike: the key, the address.
        """
        if not self._uses_schema:
            return await self._call(question, has_schema=False)
        tried = await self._call(question, has_schema=True)
        if isinstance(tried, ChatCompletion):
            self._has_schema_worked = True
        may_be_schema = self._judge.response_format == "auto" and not self._has_schema_worked
        if not isinstance(tried, Declined) or not may_be_schema:
            return tried
        plain = await self._call(question, has_schema=False)
        if isinstance(plain, ChatCompletion):
            self._uses_schema, self.has_refused_schema = False, True
        return plain

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, question: Question, *, has_schema: bool) -> Tried:
        limit = self._judge.timeout_s
        try:
            async with asyncio.timeout(limit):
                raw = await self._client.chat.completions.with_raw_response.create(
                    **self._arguments(question, has_schema=has_schema)
                )
                return self._read(raw.http_response.content)
        except (TimeoutError, openai.APITimeoutError):
            return Failed(f"no answer within {limit:g} s")
        except openai.APIStatusError as error:
            return self._refused(error)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return Failed(self._quoted(f"no connection: {type(cause).__name__}: {cause}"))

    def _arguments(self, question: Question, *, has_schema: bool) -> dict[str, Any]:
        judge = self._judge
        optional = {
            "temperature": judge.temperature,
            "reasoning_effort": judge.reasoning_effort,
            "max_completion_tokens": judge.max_answer_tokens,
            "response_format": answer_schema(judge) if has_schema else None,
        }
        return {
            "model": judge.model,
            "messages": [{"role": "user", "content": question.text}],
            **{name: value for name, value in optional.items() if value is not None},
            **self._client_arguments,
        }

    def _read(self, body: bytes) -> Tried:
        try:
            answer = msgspec.json.decode(body, type=ChatCompletion)
        except BAD_JSON:
            shown = body[:80].decode(errors="replace")
            return Failed(self._quoted(f"no chat completion came, but {shown!r}"))
        return answer if answer.choices else Failed("a chat completion without a choice came")

    def _refused(self, error: openai.APIStatusError) -> Tried:
        status = error.status_code
        said = self._quoted(f"HTTP {status}: {_message(error)}")
        if status in (401, 403):
            raise self._key_refused(said)
        if status in FOR_ALL or _code(error) == "insufficient_quota":
            raise StageError(f"the judge at {self._judge.base_url} answers no call: {said}")
        if status in AGAIN or status >= 500:
            after_s = retry_after_s(error.response.headers)
            return Failed(said, after_s, is_busy=status == 429)
        return Declined(said)

    def _key_refused(self, said: str) -> StageError:
        name = self._judge.api_key_env
        if name is None:
            return StageError(
                f"the judge at {self._judge.base_url} wants a key ({said})",
                fix="name its environment variable in label.judge.api_key_env",
            )
        return StageError(
            f"the judge at {self._judge.base_url} refuses the key in {name}"
            f" (label.judge.api_key_env; {said})",
            fix=f"export {name}=KEY with another, then resume the run",
        )

    def _quoted(self, text: str) -> str:
        """Returns what a server said on one short line, without the key that it may repeat."""
        return short_reason(text.replace(self._key, "(the key)") if self._key else text)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that a server asks to wait; it says seconds, milliseconds or a date."""
    try:
        if (text := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(text) / 1000)
        text = headers.get("retry-after")
        return None if text is None else max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(str(text)).timestamp() - clock.now())
    except ValueError:
        return None


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return error.response.text or "(nothing)"


def _code(error: openai.APIStatusError) -> str | None:
    return error.body.get("code") if isinstance(error.body, dict) else None

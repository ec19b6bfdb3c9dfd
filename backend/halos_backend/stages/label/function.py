"""Owns the `function` judge: a Python function of the person's own gives the reward."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import numbers
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halos_backend.errors import UsageError
from halos_backend.stages.label.judge import (
    FLOAT64_ROUNDING,
    LabelRow,
    Unscored,
    Verdict,
    checked,
    short_reason,
)

JudgeFunction = Callable[[list[dict[str, str]], str, dict[str, Any]], Any]


@dataclass
class CallableJudge:
    """Calls `function(prompt, completion, row)` once per completion, in order.

    Equal completions too: a function may draw lots on purpose.
    """

    name: str
    function: JudgeFunction
    identity: str
    engine: str = ""
    rounding: float = FLOAT64_ROUNDING
    _has_logged: bool = field(default=False, repr=False)

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, Verdict]]:
        """See Judge. Known rewards are taken as they are: rows are judged one by one."""
        for index, row in enumerate(rows):
            yield index, known[index] if index in known else self._verdict(row)

    def _verdict(self, row: LabelRow) -> Verdict:
        """Messages and columns are handed over as copies: the function may change them."""
        messages = [{"role": message.role, "content": message.content} for message in row.prompt]
        try:
            reward = self.function(messages, row.text, copy.deepcopy(row.columns))
        except Exception as error:  # noqa: BLE001  somebody else's code
            self._log_first(row)
            return Unscored(
                short_reason(f"judge raised {type(error).__name__}: {error}"), is_error=True
            )
        return reward_of(reward)

    def _log_first(self, row: LabelRow) -> None:
        """One traceback is enough to mend the function; thousands would fill the log."""
        if not self._has_logged:
            self._has_logged = True
            print(f"{self.name} on {row.completion_id}:", file=sys.stderr)  # noqa: T201  the log
            traceback.print_exc()


def reward_of(returned: Any) -> Verdict:
    """What a judge function returned, as a reward: any real number, True 1 and False 0."""
    if returned is None:
        return Unscored("judge returned None")
    if not isinstance(returned, numbers.Real):
        return Unscored(f"judge returned {type(returned).__name__}", is_error=True)
    try:
        return checked(float(returned))
    except OverflowError:
        return Unscored("reward is inf", is_error=True)


def load_function_judge(spec: str) -> CallableJudge:
    """The judge of `file.py:name`. Raises UsageError."""
    path, name = split_spec(spec)
    function = load_function(spec)
    digest = hashlib.sha256(f"{name} ".encode() + path.read_bytes()).hexdigest()
    return CallableJudge(name=spec, function=function, identity=f"function {digest}")


def split_spec(spec: str) -> tuple[Path, str]:
    file, _, name = spec.rpartition(":")
    return Path(file), name


def load_function(spec: str) -> JudgeFunction:
    """Import `file.py` from its path and take `name` of it. Raises UsageError."""
    path, name = split_spec(spec)
    if not path.is_file():
        raise UsageError(f"label.judge.function = {spec!r}: there is no file {path}")
    module = _import_file(path, spec)
    function = getattr(module, name, None)
    if not callable(function):
        what = "has no" if function is None else "is not a function:"
        raise UsageError(
            f"label.judge.function = {spec!r}: {path.name} {what} {name};"
            f" define {name}(prompt, completion, row) in it"
        )
    return function


def _import_file(path: Path, spec: str) -> Any:
    module_spec = importlib.util.spec_from_file_location(f"halos_judge_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise UsageError(f"label.judge.function = {spec!r}: {path} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and pickle look the module up
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that the judge's neighbours shadow nothing
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        traceback.print_exc()
        raise UsageError(
            f"label.judge.function = {spec!r}: importing {path} raised"
            f" {short_reason(f'{type(error).__name__}: {error}')}"
        ) from error
    return module

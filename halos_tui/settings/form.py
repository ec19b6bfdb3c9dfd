"""Owns the form of a run's settings, made from the schema: rows, edits, problems, consequences.

Nothing of the schema is listed here. Edits are kept as the text after the equals sign of
`--set KEY=VALUE`, so that a form, a verb and a request say the same. Draws nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from halos_backend.config.changes import forget_defaults
from halos_backend.config.load import DEFAULT, apply_overrides, overridden_keys
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import choices_of, entry_table, field_at
from halos_backend.config.wording import Problem
from halos_backend.errors import SettingsError, UsageError
from halos_backend.findings import Finding
from halos_backend.settings_json import is_at_or_below, leaves

from halos_tui.settings.rows import (
    OFF,
    OFTEN,
    ON,
    UNSET,
    Row,
    settings_rows,
    table_headings,
    text_of,
)


@dataclass(frozen=True)
class Checked:
    """Holds what the backend says of the edits: all that is wrong, or what follows from them.

    `settings` are the whole new ones where nothing is wrong, `findings` the doctor's about these.
    `from_round` is the first round of a run that the edits can hold for, where that is another one
    than the form is for.
    """

    problems: tuple[Problem, ...] = ()
    consequences: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
    from_round: int | None = None


@dataclass(frozen=True)
class FormView:
    """This is the form at one moment. `now` has the values to compare with, by path; `often` are
    the paths of what people change most. `from_round` is the round from which the edits hold, where
    they change a run. `differs` are the settings that are not as the form began, `notes` say beside
    a setting what it was, by path. `typed` is the setting whose value is being typed: what is wrong
    with it is no problem before it is entered.
    """

    rows: tuple[Row, ...]
    now: Mapping[str, str]
    headings: Mapping[str, str]
    edited: frozenset[str]
    assignments: tuple[str, ...]
    checked: Checked = field(default_factory=Checked)
    often: tuple[str, ...] = ()
    from_round: int | None = None
    differs: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    typed: str = ""

    @cached_property
    def problems(self) -> Mapping[str, str]:
        """Returns problems by the path of the row that shows them; under "" those without a row."""
        found: dict[str, list[str]] = {}
        for place, reason in self.checked.problems:
            path = self._row_of(place)
            if path and path == self.typed:
                continue
            found.setdefault(path, []).append(
                reason if place in ("", path) else f"{place}: {reason}"
            )
        return {path: "; ".join(reasons) for path, reasons in found.items()}

    @cached_property
    def found(self) -> Mapping[str, tuple[Finding, ...]]:
        """Returns what is wrong, or may be, by the path of each row it is about, the worst
        first.
        """
        found: dict[str, tuple[Finding, ...]] = {}
        paths = [row.path for row in self.rows]
        for finding in self.findings:
            for path in places_of(finding, paths) if finding.level != "ok" else ():
                found[path] = (*found.get(path, ()), finding)
        return found

    def _row_of(self, path: str) -> str:
        """Returns the row that a path is for, or the first of its table; "" where there is none."""
        bare = path.partition("[")[0]
        paths = [row.path for row in self.rows]
        below = [path for path in paths if bare and is_at_or_below(path, bare)]
        above = [path for path in paths if is_at_or_below(bare, path)]
        if bare in paths or not below:
            return max(above, key=len, default="")
        return below[0]


LEVELS = ("problem", "warning", "ok")
"""The doctor's levels, the worst first."""
SUBJECTS = {
    "batch": ("train.batch_size",),
    "devices": ("launch.devices",),
    "disk": ("loop.keep_checkpoints",),
    "held out": ("prompts.held_out",),
    "judge": ("label.judge.path", "label.judge.function", "label.judge.model"),
    "kernels": ("train.kernels",),
    "lengths": ("sample.max_new_tokens",),
    "memory": ("train.microbatch_tokens",),
    "policy": ("policy.path",),
    "programs": ("launch.warm_workers",),
    "prompts": ("prompts.path",),
    "reference": ("train.reference",),
    "sampler": ("sample.engine",),
    "sampler memory": ("sample.vllm.gpu_memory_utilization",),
}
"""The settings that a finding is about whose text names none, by its subject."""
NAMED = re.compile(r"[a-z_]+(?:\.[a-z0-9_]+)+")


def places_of(finding: Finding, paths: Collection[str]) -> list[str]:
    """Returns which of the rows a finding is about: those that it names, else those of its
    subject.
    """
    named = dict.fromkeys(NAMED.findall(f"{finding.text} {finding.fix}"))
    return [path for path in named if path in paths] or [
        path for path in SUBJECTS.get(finding.subject, ()) if path in paths
    ]


Check = Callable[[Sequence[str]], Checked]
"""It takes `KEY=VALUE` edits; it may ask whether files exist, so it is called in threads only."""


class SettingsForm:
    """Holds edits over `base`, the settings as plain JSON or as the tables of a run file.

    `now` are those that hold until `from_round`, `base` itself where no run is changed. Relative
    paths are looked for in the `directories`, by default in the working directory.
    """

    def __init__(
        self,
        base: Mapping[str, Any],
        check: Check,
        *,
        now: Mapping[str, Any] | None = None,
        from_round: int | None = None,
        why_fixed: Callable[[str], str] = lambda _path: "",
        often: Sequence[str] = OFTEN,
        note: Callable[[Row], str] = lambda _row: "",
        directories: Sequence[Path] = (),
    ) -> None:
        self.base = base
        self.edits: dict[str, str] = {}
        self._check = check
        self._from_round = from_round
        self._why_fixed = why_fixed
        self._often = tuple(often)
        self._note = note
        self.directories = tuple(directories) or (Path.cwd(),)
        self._learned: tuple[Finding, ...] = ()
        self._learned_of: Mapping[str, str] = {}
        known = base if now is None else now
        self._now = {row.path: row.value for row in settings_rows(known)}
        self._before = {row.path: row.value for row in settings_rows(base)}

    def copy(self) -> SettingsForm:
        """Returns the form as it is now, for a thread; later edits do not reach it."""
        made = copy(self)
        made.edits = dict(self.edits)
        return made

    def edit(self, path: str, text: str) -> None:
        """Sets a value; the one it has already, or that of an absent one, is no edit."""
        text = text.strip()
        if text == self._before.get(path):
            self.reset(path)
        else:
            self.edits.pop(path, None)
            self.edits[path] = text

    def add_entry(self, path: str, name: str) -> str:
        """Begins a table of that name with the first setting that it needs; returns that row's
        path.
        """
        about = field_at(RunSettings, path.split("."), self.base)
        table = None if about is None else entry_table(about)
        if table is None:
            return path
        key, needed = next(
            (key, needed) for key, needed in table.model_fields.items() if needed.is_required()
        )
        self.edit(f"{path}.{name}.{key}", next(iter(choices_of(needed)), ""))
        return f"{path}.{name}.{key}"

    def reset(self, path: str) -> bool:
        """Takes back what was edited there and below; returns whether anything was."""
        found = [edited for edited in self.edits if is_at_or_below(edited, path)]
        for edited in found:
            del self.edits[edited]
        return bool(found)

    def put_back(self, path: str, value: object) -> None:
        """Sets a value, or each value of a table, that was there before."""
        for key, leaf in leaves(path, value):
            absent = OFF if self.is_table(key) else DEFAULT
            self.edits[key] = absent if leaf is None else text_of(leaf)

    @property
    def assignments(self) -> tuple[str, ...]:
        """Returns the edits as `--set` takes them; a switched table comes before what is in it."""
        ordered = sorted(self.edits.items(), key=lambda edit: edit[0].count("."))
        return tuple(f"{path}={_assigned(path, text, self)}" for path, text in ordered)

    def rows(self) -> tuple[Row, ...]:
        """Returns the rows as edited, valid or not: a table shows the fields of the kind it would
        have.
        """
        assignments = self.assignments
        current = forget_defaults(self.base, overridden_keys(assignments))
        merged, _ = apply_overrides(RunSettings, current, assignments)
        return tuple(
            replace(row, value=self.edits.get(row.path, row.value), fixed=self._why_fixed(row.path))
            for row in settings_rows(merged)
        )

    def learn(self, findings: Iterable[Finding], view: FormView) -> None:
        """Keeps what a look at the inputs of that view found, for as long as the settings that it
        is about are the same.
        """
        self._learned = tuple(each for each in findings if each not in view.checked.findings)
        self._learned_of = {row.path: row.value for row in view.rows}

    def view(self) -> FormView:
        """Returns all there is to show; asks the backend, which takes milliseconds."""
        rows, assignments = self.rows(), self.assignments
        checked = self._check(assignments)
        values = {row.path: row.value for row in rows}
        changed = {path for path, text in self._before.items() if values.get(path, text) != text}
        differs = frozenset(self.edits) | changed
        findings = (*checked.findings, *self._still_so(values))
        return FormView(
            rows=rows,
            now=self._now,
            headings=table_headings(),
            edited=frozenset(self.edits),
            assignments=assignments,
            checked=checked,
            often=self._often,
            from_round=checked.from_round or self._from_round,
            differs=differs,
            notes=self._notes(rows, differs),
            findings=tuple(sorted(findings, key=lambda found: LEVELS.index(found.level))),
        )

    def _notes(self, rows: Sequence[Row], differs: Collection[str]) -> dict[str, str]:
        if self._from_round is None:
            began = {path: self._before.get(path, "") or UNSET for path in differs}
            return {path: f"instead of {text}" for path, text in began.items()}
        found = {row.path: self._note(row) for row in rows if row.path not in self.edits}
        return {path: note for path, note in found.items() if note}

    def _still_so(self, values: Mapping[str, str]) -> Iterator[Finding]:
        """Yields what was learned of settings that are the same; of all where it names none."""
        for finding in self._learned:
            places = places_of(finding, values) or {*values, *self._learned_of}
            if all(values.get(path) == self._learned_of.get(path) for path in places):
                yield finding

    def is_table(self, path: str) -> bool:
        """Says whether that is a table which may be absent."""
        return any(row.path == path and row.is_table for row in settings_rows(self.base)) or (
            self.edits.get(path) in (ON, OFF)
        )


def checked(check: Callable[[], Checked]) -> Checked:
    """Returns what `check` gives; what it raises becomes problems."""
    try:
        return check()
    except SettingsError as error:
        return Checked(problems=error.problems)
    except UsageError as error:
        return Checked(problems=(("", str(error)),))


def _assigned(path: str, text: str, form: SettingsForm) -> str:
    """Words an edit: an absent table is switched on empty, and off by taking it out."""
    if text in (ON, OFF) and form.is_table(path):
        return "{}" if text == ON else DEFAULT
    return text

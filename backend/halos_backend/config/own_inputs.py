"""Reads what a person brings to `init`: a policy, prompts, a reward; and fits a first run to it.

Only names, columns and the policy's context are read here; the prepare stage finds out whether a
run can use them.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halos_backend.errors import UsageError

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
PROMPT_COLUMNS = ("prompt", "messages", "question", "instruction", "problem", "query", "input")
"""Lists what columns of prompts are called, the likeliest first."""
ANYTHING = "*"
"""Stands for whatever `import *` and branches may define."""
SMALL: dict[str, dict[str, Any]] = {
    "loop": {"num_rounds": 3, "prompts_per_round": 8},
    "sample": {"group_size": 4, "max_new_tokens": 64},
    "train": {"batch_size": 8},
}
"""Is a first run that a CPU finishes in minutes with a small policy."""
USUAL: dict[str, dict[str, Any]] = {
    "loop": {"prompts_per_round": 512},
    "sample": {"group_size": 8, "max_new_tokens": 512},
}


@dataclass(frozen=True)
class OwnInputs:
    """Holds tables of a run file, and why some of their values are what they are, by dotted key."""

    tables: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def examine_inputs(
    *,
    policy: str | None = None,
    prompts: str | None = None,
    prompt_column: str | None = None,
    reward: str | None = None,
    reward_model: str | None = None,
) -> OwnInputs:
    """Returns the settings that name these, with absolute paths. Raises UsageError for what is
    missing.
    """
    if reward is not None and reward_model is not None:
        raise UsageError("--reward and --reward-model: name one of them, for a run has one judge")
    tables: dict[str, Any] = {}
    notes: dict[str, str] = {}
    if policy is not None:
        tables["policy"] = {"path": _model("--policy", policy)}
    if prompts is not None:
        tables["prompts"], columns = _prompts(prompts, prompt_column)
        if columns:
            notes["prompts.prompt"] = f"of the columns {', '.join(columns)}"
    elif prompt_column is not None:
        raise UsageError("--prompt-column names a column of --prompts: name that file too")
    if reward is not None:
        tables["label"] = {"judge": {"kind": "function", "function": _function(reward)}}
    if reward_model is not None:
        model = _model("--reward-model", reward_model)
        tables["label"] = {"judge": {"kind": "reward_model", "path": model}}
    return OwnInputs(tables, notes)


def first_sizes(inputs: OwnInputs, *, is_cpu: bool) -> OwnInputs:
    """Decides how large a first run is: small on a CPU, and what the policy's context has
    room for.
    """
    sizes = {table: dict(values) for table, values in (SMALL if is_cpu else USUAL).items()}
    notes = {"loop.prompts_per_round": "small, for a CPU; 512 is usual on a GPU"} if is_cpu else {}
    context = _context(inputs.tables.get("policy", {}).get("path"))
    if context is not None and context // 2 < sizes["sample"]["max_new_tokens"]:
        sizes["sample"]["max_new_tokens"] = max(1, context // 2)
        notes["sample.max_new_tokens"] = f"the policy's context is {context} tokens"
    return OwnInputs(sizes, notes)


def _model(option: str, name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"{option} {name}: is no model's directory, for it has no config.json")
        return str(path.absolute())
    if path.exists():
        raise UsageError(f"{option} {name}: that is a file", fix="name the model's directory")
    return _hub_name(option, name, "directory")


def _hub_name(option: str, name: str, kind: str) -> str:
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(
            f"{option} {name}: there is no such {kind}, and that is no name on the hub either"
        )
    return name


def _prompts(name: str, column: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the table [prompts], and the columns of a file that there was to choose from."""
    path = Path(name).expanduser()
    read = FIRST_ROWS.get(path.suffix.lower())
    if read is None:
        if path.exists():
            raise UsageError(f"--prompts {name}: make it .json, .jsonl, .csv or .parquet")
        table = {"path": _hub_name("--prompts", name, "file")}
        return table | ({"prompt": column} if column else {}), ()
    if not path.is_file():
        raise UsageError(f"--prompts {name}: there is no such file")
    row = _first_row(read, path)
    columns = tuple(row)
    column = column or _prompt_column(name, row)
    if re.split(r"[.\[]", column)[0] not in columns:
        raise UsageError(f"--prompt-column {column}: {name} has the columns {', '.join(columns)}")
    table = {"path": str(path.absolute())}
    return (table, ()) if column == "prompt" else (table | {"prompt": column}, columns)


def _prompt_column(name: str, row: Mapping[str, Any]) -> str:
    """Picks the column. Raises UsageError where none is likelier than the others."""
    known = [column for column in PROMPT_COLUMNS if column in row]
    if "turns" in row:
        known.append("turns[0]")
    if not known and len(row) == 1:
        known = list(row)
    if not known:
        raise UsageError(
            f"--prompts {name}: which of its columns ({', '.join(row)}) is the prompt? Name it with"
            " --prompt-column"
        )
    return known[0]


def _first_row(read: Any, path: Path) -> Mapping[str, Any]:
    """Reads the first row. Raises UsageError for a file without one."""
    try:
        row = next(read(path), None)
    except (ValueError, OSError, RecursionError, csv.Error) as error:
        raise UsageError(f"--prompts {path}: its first row cannot be read: {error}") from error
    if not isinstance(row, Mapping) or not row:
        raise UsageError(f"--prompts {path}: it has no row with columns")
    return row


def _json_rows(path: Path) -> Iterator[Any]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    yield from rows if isinstance(rows, list) else ()


def _json_line_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _csv_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _parquet_rows(path: Path) -> Iterator[Any]:
    from pyarrow import parquet  # 0.2 s that other formats need not wait

    yield dict.fromkeys(parquet.read_schema(path).names)


FIRST_ROWS = {
    ".json": _json_rows,
    ".jsonl": _json_line_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}


def _function(text: str) -> str:
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = Path(file).expanduser()
    if path.suffix != ".py":
        raise UsageError(f"--reward {text}: write FILE.py:FUNCTION, such as judge.py:reward")
    if not path.is_file():
        raise UsageError(
            f"--reward {text}: there is no such file; it defines\n"
            f"  def {name or 'reward'}(prompt, completion, row):  # messages, text, other columns\n"
            "      return 1.0 if row['answer'] in completion else 0.0"
        )
    names = _defined_names(path)
    if name not in names and ANYTHING not in names:
        there = ", ".join(sorted(names)) or "nothing"
        raise UsageError(f"--reward {text}: {file} has no {name or 'function'}; it defines {there}")
    return f"{path.absolute()}:{name}"


def _defined_names(path: Path) -> set[str]:
    """Returns what a module's top level defines and imports, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"--reward {path}: that is no Python: {error}") from error
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.ImportFrom() | ast.Import():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.If() | ast.Try() | ast.With():
                names.add(ANYTHING)
            case _:
                pass
    return names


def _context(policy: object) -> int | None:
    """Counts the tokens of context by the policy's configuration; None where that does not say."""
    if not isinstance(policy, str):
        return None
    try:
        config = json.loads((Path(policy) / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    for table in (config, config.get("text_config")):
        length = table.get("max_position_embeddings") if isinstance(table, dict) else None
        if isinstance(length, int):
            return length
    return None

"""Whatever is in prompts, templates and models, it ends in exit code 0 or 2 and its words."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from halos_backend.store.run_dir import RunDir
from pyarrow import parquet

from tests.fuzz.conftest import ROWS, Good
from tests.support.cases import check_inputs, restore, run_cases
from tests.support.mutations import as_json, mutate_bytes, mutate_value

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore"),  # libraries warn of what they are given
]


def as_csv(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["prompt", "answer"])
    writer.writerows([f"say {letter}, please", letter] for letter in "abc")
    return text.getvalue().encode()


def as_parquet() -> bytes:
    file = io.BytesIO()
    rows = [{"prompt": f"say {letter}", "level": 0.5, "tags": [letter]} for letter in "abc"]
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def prompts_of(draw: random.Random) -> tuple[str, bytes]:
    """A file's name and its content."""
    match draw.randrange(6):
        case 0:
            return "p.jsonl", mutate_bytes(draw, b"".join(as_json(row) + b"\n" for row in ROWS))
        case 1:
            rows = [mutate_value(draw, row) for row in ROWS]
            return "p.jsonl", b"".join(as_json(row) + b"\n" for row in rows)
        case 2:
            return "p.json", as_json(mutate_value(draw, ROWS))
        case 3:
            return "p.json", mutate_bytes(draw, json.dumps(ROWS, indent=1).encode())
        case 4:
            return "p.csv", mutate_bytes(draw, as_csv(draw.choice(",,;\t")))
        case _:
            return "p.parquet", mutate_bytes(draw, as_parquet())


COLUMNS = ("prompt", "prompt[0].content", "tags[0]", "answer", "level", "a.b", "[", "", "\x00")


def test_any_prompts(good: Good, run_dir: RunDir, tmp_path: Path) -> None:
    def case(draw: random.Random) -> str:
        name, content = prompts_of(draw)
        (tmp_path / name).write_bytes(content)
        prompts: dict[str, object] = {"path": str(tmp_path / name)}
        if draw.random() < 0.2:
            prompts["prompt"] = draw.choice(COLUMNS)
        if draw.random() < 0.2:
            prompts["prompt_id"] = draw.choice(COLUMNS)
        return check_inputs(run_dir, good.settings(prompts=prompts))

    run_cases("prompts", 0.25, case)


def test_any_template(good: Good, run_dir: RunDir, tmp_path: Path) -> None:
    def case(draw: random.Random) -> str:
        path = tmp_path / "template.jinja"
        path.write_bytes(mutate_bytes(draw, good.template.read_bytes()))
        return check_inputs(run_dir, good.settings(policy={"chat_template": str(path)}))

    run_cases("templates", 0.15, case)


def test_any_model(good: Good, run_dir: RunDir, tmp_path: Path) -> None:
    policy = tmp_path / "policy"

    def case(draw: random.Random) -> str:
        restore(good.policy, policy)
        path = draw.choice(sorted(policy.iterdir()))
        content = path.read_bytes()
        if path.suffix == ".json" and draw.random() < 0.6:
            path.write_bytes(as_json(mutate_value(draw, json.loads(content))))
        elif draw.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(mutate_bytes(draw, content))
        return check_inputs(run_dir, good.settings(policy={"path": str(policy)}))

    run_cases("models", 0.25, case)

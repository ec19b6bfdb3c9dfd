"""Owns what the prepare stage's tests run on: a tiny policy and a run directory with settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
from halos_backend import atomic
from halos_backend.config.schema import RunSettings
from halos_backend.findings import refuse_inputs
from halos_backend.records import Prompt, read_rows
from halos_backend.stages.prepare.prepare import prepare
from halos_backend.store.run_dir import RunDir

from tests.support.place import make_policy

ROWS = [{"prompt": "say a", "answer": "a"}, {"prompt": "say b", "answer": "b"}]
JUDGE = "def reward(prompt, completion, row):\n    return 1.0\n\nNUMBER = 3\n"


class PreparePlace:
    """A policy, a judge, and a run directory that is prepared again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = path / "policy"
        make_policy(self.policy)
        (path / "judge.py").write_text(JUDGE)
        self.run_dir = RunDir(path / "run")
        self.run_dir.path.mkdir()

    def set_context(self, num_tokens: int) -> None:
        config = json.loads((self.policy / "config.json").read_text())
        config["max_position_embeddings"] = num_tokens
        (self.policy / "config.json").write_text(json.dumps(config))

    def source(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def json_lines(self, rows: Sequence[Any], name: str = "prompts.jsonl") -> Path:
        return self.source(name, "".join(json.dumps(row) + "\n" for row in rows))

    def write_settings(self, path: Path | str, **tables: dict[str, Any]) -> None:
        judge = {"kind": "function", "function": f"{self.path}/judge.py:reward"}
        table: dict[str, dict[str, Any]] = {
            "policy": {"path": str(self.policy)},
            "prompts": {"path": str(path)},
            "sample": {"max_new_tokens": 8},
            "label": {"judge": judge, "feedback": {"kind": "pairwise"}},
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"num_threads": 1, "device": "cpu"},
        }
        for name, values in tables.items():
            table[name] = {**table[name], **values}
        resolved = RunSettings.model_validate(table)
        atomic.write_bytes(self.run_dir.resolved_config, resolved.model_dump_json().encode())

    def prepare(self, path: Path | str, **tables: dict[str, Any]) -> list[Prompt]:
        """The frozen prompts. Raises InputsError."""
        self.write_settings(path, **tables)
        refuse_inputs(prepare(self.run_dir))
        return list(read_rows(self.run_dir.prompts, Prompt))

    @property
    def prepared(self) -> dict[str, Any]:
        found = msgspec.json.decode(self.run_dir.prepared.read_bytes())
        assert isinstance(found, dict)
        return found


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """The address of a hub that has one repository, whatever its name: the files of `folder`."""

    class Repository(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            name = self.path.partition("?")[0].rpartition("/resolve/main/")[2]
            file = folder / name
            found = file.is_file()
            content = file.read_bytes() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content)))
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Repository) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.prompt[-1]["content"] for prompt in prompts]

"""A real HTTP server that speaks the OpenAI API of chat completions, and misbehaves on purpose.

It counts what it answered: an answer that it sent whole was paid for.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Asked = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server does with a call: it answers `text`, or misbehaves by its `kind`."""

    text: str = ""
    kind: str = "answer"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    finish_reason: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    has_usage: bool = True
    usage: tuple[int, int] | None = None


def failure(status: int, said: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(kind="fail", status=status, headers=named, body={"error": {"message": said}})


HTML = Reply(kind="fail", headers={"content-type": "text/html"}, body="<html>sign in</html>")
NO_JSON = Reply(kind="fail", body='{"choices": [')
NO_CHOICE = Reply(kind="fail", body={"choices": []})
HALF = Reply(kind="half")
GONE = Reply(kind="gone")
HANG = Reply(kind="hang")


@dataclass
class JudgeServer:
    """Serves until it is closed. `reply` gets the first line of a call, by which calls are counted
    too, and how often that was asked before.
    """

    reply: Callable[[str, int], Reply]
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    calls: list[Asked] = field(default_factory=list)
    begun_t: list[float] = field(default_factory=list)
    num_now: int = 0
    most_now: int = 0
    num_tokens: int = 0
    url: str = ""
    takes_schema: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def enter(self, call: Asked) -> tuple[str, int]:
        text = call["body"]["messages"][-1]["content"].partition("\n")[0]
        with self.lock:
            self.calls.append(call)
            self.begun_t.append(time.monotonic())
            self.num_now += 1
            self.most_now = max(self.most_now, self.num_now)
            before = self.asked[text]
            if self.takes_schema or "response_format" not in call["body"]:
                self.asked[text] += 1
            return text, before

    def leave(self) -> None:
        with self.lock:
            self.num_now -= 1

    def judge(self, **settings: Any) -> dict[str, Any]:
        """The table [label.judge] of this server; failed calls are made again at once."""
        fast = {"retry_delay_s": 0.01, "timeout_s": 5.0}
        return {"kind": "api", "model": "a-judge", "base_url": self.url, **fast, **settings}


@contextmanager
def judge_server(reply: Callable[[str, int], Reply], **settings: Any) -> Iterator[JudgeServer]:
    served = JudgeServer(reply, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = {"path": self.path, "headers": headers, "body": body}
            text, before = served.enter(call)
            try:
                self._answer(text, before, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up
            finally:
                served.leave()

        def _answer(self, text: str, before: int, body: Any) -> None:
            if "response_format" in body and not served.takes_schema:
                said = {"error": {"message": "response_format is not supported"}}
                self._send(400, {}, json.dumps(said))
                return
            reply = served.reply(text, before)
            served.ended.wait(reply.delay_s)
            match reply.kind:
                case "answer":
                    answer = completion(reply, body["messages"][-1]["content"])
                    self._send(200, reply.headers, json.dumps(answer))
                    with served.lock:
                        served.answered[text] += 1
                        served.num_tokens += answer.get("usage", {}).get("total_tokens", 0)
                case "fail":
                    said = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                    self._send(reply.status, reply.headers, said)
                case "half":
                    said = json.dumps(completion(reply, text))
                    self._head(200, {}, len(said))
                    self.wfile.write(said.encode()[:20])
                    self.close_connection = True
                case "gone":
                    self.close_connection = True
                case "hang":
                    served.ended.wait(30)
                    self.close_connection = True

        def _send(self, status: int, headers: dict[str, str], said: str) -> None:
            self._head(status, headers, len(said.encode()))
            self.wfile.write(said.encode())

        def _head(self, status: int, headers: dict[str, str], length: int) -> None:
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(length))
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        served.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def completion(reply: Reply, asked: str) -> dict[str, Any]:
    """A chat completion as OpenAI's API has it; a token is a word of the whole text."""
    message = {"role": "assistant", "content": reply.text, **reply.message}
    counts = reply.usage or (len(asked.split()), len(reply.text.split()))
    usage = {
        "prompt_tokens": counts[0],
        "completion_tokens": counts[1],
        "total_tokens": sum(counts),
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "a-judge",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        **({"usage": usage} if reply.has_usage else {}),
    }

"""An OpenAI-compatible server of one's own words, for tests: no model, a script. It keeps every request."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server sends. `body` None makes a chat completion of `words`; `seconds` before it are slept."""

    words: str = ""
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    finish: str = "stop"


Script = Callable[[str, int], Answer | str]  # (prompt, number of the request) → what is sent


@dataclass
class JudgeServer:
    """`asked` and `keys` hold each request's content and Authorization header."""

    url: str
    asked: list[dict[str, Any]]
    keys: list[str | None]

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.asked]


@contextmanager
def judge_server(script: Script) -> Iterator[JudgeServer]:
    """Serves until the block is left."""
    lock = threading.Lock()
    asked: list[dict[str, Any]] = []
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(asked)
                asked.append(request)
                keys.append(self.headers.get("Authorization"))
            told = script(request["messages"][0]["content"], number)
            answer = Answer(told) if isinstance(told, str) else told
            time.sleep(answer.seconds)
            completion = {
                "choices": [{"message": {"content": answer.words}, "finish_reason": answer.finish}],
                "usage": {"total_tokens": 10},
            }
            body = json.dumps(completion).encode() if answer.body is None else answer.body
            try:
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the client did not wait
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield JudgeServer(f"http://127.0.0.1:{server.server_port}/v1", asked, keys)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A server that speaks enough of the OpenAI API to test a client, and fails on demand.

Replies echo the last message word by word, so that a test can tell whose reply it got; embeddings
are those of `HashEmbedder`. `failures` are taken one a request, oldest first:

    server.failures += [Failure(status=429), Failure(hang_s=2.0), Failure(kind="cut")]
"""

import base64
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from hybrid_memory.testing import HashEmbedder


@dataclass(frozen=True)
class Failure:
    """One request's fate: an HTTP status, a pause before the reply, or a broken reply.

    `kind` is what breaks: "json" (malformed), "html" (not the API), "empty" (no choices or data),
    "cut" (the connection drops inside the reply), "end" (the reply ends early, cleanly),
    "error" (an error event inside a stream), "bare" (no usage, as some servers answer).
    """

    status: int = 200
    hang_s: float = 0.0
    kind: Literal["", "json", "html", "empty", "cut", "end", "error", "bare"] = ""
    code: str | None = None


@dataclass
class OpenAIServer:
    """Serves /v1 on a free port of the loopback interface while it is entered."""

    dim: int = 64
    failures: list[Failure] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    reply: str | None = None
    shuffled: bool = False

    def __enter__(self) -> Self:
        server = self
        self._stopped = threading.Event()

        class Handler(_Handler):
            api = server

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        """What a client takes for its `base_url`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def reset(self) -> None:
        """Forget all requests and failures."""
        self.failures.clear()
        self.requests.clear()
        self.keys.clear()
        self.reply, self.shuffled, self.dim = None, False, 64

    def pause(self, seconds: float) -> None:
        """Sleep, unless the server stops."""
        self._stopped.wait(seconds)


def closed_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    api: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.api.requests.append(body)
        self.api.keys.append(self.headers.get("Authorization"))
        failure = self.api.failures.pop(0) if self.api.failures else Failure()
        try:
            if failure.hang_s:
                self.api.pause(failure.hang_s)
            self._answer(body, failure)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: dict[str, Any], failure: Failure) -> None:
        if failure.status != 200:
            # A server may repeat the texts in its error, as this one does.
            error = {"message": f"refused: {json.dumps(body)}", "code": failure.code, "type": "x"}
            self._send(json.dumps({"error": error}), status=failure.status)
        elif failure.kind == "json":
            self._send('{"choices": [{"mess')
        elif failure.kind == "html":
            self._send("<html>It works!</html>", content_type="text/html")
        elif self.path == "/v1/embeddings":
            self._send(json.dumps(self._embeddings(body, failure)), cut=failure.kind == "cut")
        elif self.path != "/v1/chat/completions":
            self._send('{"error": {"message": "no such route"}}', status=404)
        elif body.get("stream"):
            self._stream(body, failure)
        else:
            self._send(json.dumps(self._completion(body, failure)), cut=failure.kind == "cut")

    def _reply_to(self, body: dict[str, Any]) -> tuple[list[str], dict[str, int]]:
        last = str(body["messages"][-1]["content"])
        words = (f"You said: {last}" if self.api.reply is None else self.api.reply).split(" ")
        pieces = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
        prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
        return pieces, {
            "prompt_tokens": prompt,
            "completion_tokens": len(pieces),
            "total_tokens": prompt + len(pieces),
        }

    def _completion(self, body: dict[str, Any], failure: Failure) -> dict[str, Any]:
        pieces, usage = self._reply_to(body)
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "chat-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [] if failure.kind == "empty" else [choice],
        } | ({} if failure.kind == "bare" else {"usage": usage})

    def _stream(self, body: dict[str, Any], failure: Failure) -> None:
        pieces, usage = self._reply_to(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def event(choices: list[dict[str, Any]], **extra: Any) -> None:
            chunk = {"id": "chat-1", "object": "chat.completion.chunk", "created": 0}
            self._event(json.dumps({**chunk, "model": body["model"], "choices": choices, **extra}))

        event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for i, piece in enumerate(pieces):
            if i == 1 and failure.kind == "cut":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if i == 1 and failure.kind == "end":
                self._chunk(b"")
                return
            if i == 1 and failure.kind == "error":
                said = json.dumps({"error": {"message": f"overloaded: {json.dumps(body)}"}})
                self._event(said)
                self._chunk(b"")
                return
            if failure.kind != "empty":
                event([{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
        if failure.kind != "empty":
            event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if failure.kind != "bare" and body.get("stream_options", {}).get("include_usage"):
            event([], usage=usage)
        self._event("[DONE]")
        self._chunk(b"")

    def _embeddings(self, body: dict[str, Any], failure: Failure) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        # Not of norm 1, as other servers' vectors may be.
        vectors = HashEmbedder(self.api.dim).embed(texts) * np.float32(3)
        rows = [
            {"object": "embedding", "index": i, "embedding": self._encoded(vector, body)}
            for i, vector in enumerate(vectors)
        ]
        if self.api.shuffled:
            rows.reverse()
        if failure.kind == "empty":
            rows = []
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "model": body["model"], "data": rows, "usage": usage}

    def _encoded(self, vector: np.ndarray, body: dict[str, Any]) -> str | list[float]:
        if body.get("encoding_format") == "base64":
            return base64.b64encode(vector.tobytes()).decode()
        numbers: list[float] = vector.tolist()
        return numbers

    def _send(
        self,
        text: str,
        *,
        status: int = 200,
        content_type: str = "application/json",
        cut: bool = False,
    ) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After-Ms", "1")  # so that retries take no time
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _event(self, data: str) -> None:
        self._chunk(f"data: {data}\n\n".encode())

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

"""An endpoint over real HTTP: takes what is posted, answers as told, checks every signature."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from tests.factories import SECRET
from tests.serving import until


@dataclass(frozen=True)
class Posted:
    headers: dict[str, str]
    raw: bytes
    path: str

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def timestamp(self) -> int:
        return int(self.headers["webhook-timestamp"])

    def verified(self, secret: str = SECRET) -> Any:
        """The body, once the library has verified it as a receiver would."""
        return Webhook(secret).verify(self.raw, self.headers)


@dataclass
class Receiver:
    """What was posted, and how the next posts are answered."""

    port: int = 0
    status: int = 200
    answer: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    posted: list[Posted] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None
    """Done between taking a post and answering it."""
    echoes: bool = False
    """Whether an answer holds what was posted."""
    holding: threading.Event | None = None
    """No post is answered before this is set."""
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/pins"

    def hold(self) -> threading.Event:
        self.holding = threading.Event()
        return self.holding

    def wait_for(self, number: int) -> list[Posted]:
        until(lambda: len(self.posted) >= number, f"{number} posts")
        return self.posted

    def bodies(self) -> list[Any]:
        return [json.loads(one.raw) for one in self.posted]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.posted.append(Posted(headers, raw, self.path))
            if receiver.meanwhile:
                receiver.meanwhile()
            if receiver.holding:
                receiver.holding.wait(30)
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            answer = raw if receiver.echoes else receiver.answer
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the tests' standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A sender that gave up waiting."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="receiver")
        thread.start()
        try:
            yield receiver
        finally:
            if receiver.holding:
                receiver.holding.set()
            server.shutdown()
            thread.join()

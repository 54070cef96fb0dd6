"""A TCP way to a database, for tests to cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg
from sqlalchemy import make_url


class Wire:
    """A TCP way to a database that can be cut, or fall silent."""

    def __init__(self, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            self._host, self._port = connection.info.host, connection.info.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._speaks, self.fell_silent = True, threading.Event()
        self.silent_after, self.silent_for = b"", b""
        """It falls silent after these words on a connection of that application."""
        own = make_url(database_url).difference_update_query(["host", "port"])
        own = own.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.url = own.render_as_string(hide_password=False)
        self._run(self._accept)

    def cut(self) -> None:
        """Nothing passes; new connections are closed at once, as by a server that is starting."""
        self._speaks = False
        self._hang_up()

    def mend(self) -> None:
        self.silent_after = b""
        self._hang_up()
        self.fell_silent.clear()
        self._speaks = True

    def fall_silent(self) -> None:
        """From now on the server's answers are lost, as in a network that drops them."""
        self.fell_silent.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self._speaks:
                    near.close()
                    continue
                far = self._connect()
                self._open += [near, far]
                self._run(self._pass, near, far, True)
                self._run(self._pass, far, near, False)

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        far = socket.socket(socket.AF_UNIX)
        far.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return far

    def _pass(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        opening = b""
        with suppress(OSError):
            while data := source.recv(65536):
                opening = opening if b"application_name" in opening else data
                last_words = self.silent_after and self.silent_after in data
                if asks and last_words and self.silent_for in opening:
                    self.fall_silent()
                if asks or not self.fell_silent.is_set():
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

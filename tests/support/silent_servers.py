"""Servers that keep their clients waiting."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

Silence = Literal["accepts", "headers", "trickles"]


class SilentServer(NamedTuple):
    """A server that never answers in full."""

    port: int
    asked: threading.Event
    """Set once a client has sent something, for which it now waits."""


@contextmanager
def silent_server(kind: Silence) -> Iterator[SilentServer]:
    """Run a loopback server that sends nothing, headers without a body, or one byte per second."""
    ended, asked = threading.Event(), threading.Event()
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(2**16)
            asked.set()
            if kind != "accepts":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
            while kind == "trickles" and not ended.wait(1.0):
                connection.sendall(b" ")

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                threading.Thread(target=serve, args=(connections[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield SilentServer(listener.getsockname()[1], asked)
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()

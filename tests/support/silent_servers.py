"""Servers that keep their clients waiting."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Silence = Literal["accepts", "headers", "trickles"]


@contextmanager
def silent_server(kind: Silence) -> Iterator[int]:
    """Yield the port of a loopback server that sends nothing, headers without a body, or one byte per second."""
    ended = threading.Event()
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(2**16)
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
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()

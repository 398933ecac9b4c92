"""Find the open sockets of a process and its descendants, and what they give to a client without a token.

The clients are a connection from outside, HTTP, and every gRPC method of Ray.
"""

import contextlib
import http.client
import importlib
import json
import pkgutil
import socket
from dataclasses import dataclass

import grpc
import psutil


@dataclass(frozen=True)
class Door:
    """A TCP or UDP socket that a process listens on."""

    process: str
    kind: socket.SocketKind
    host: str
    port: int

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the socket."""
        return self.host.removeprefix("::ffff:").startswith("127.") or self.host == "::1"


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def doors(pid: int) -> set[Door]:
    """Return the sockets on which a process and its descendants listen."""
    found = set()
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            name = " ".join(process.cmdline())
            for connection in process.net_connections("inet"):
                if connection.laddr and not connection.raddr and connection.status in ("LISTEN", "NONE"):
                    found.add(Door(name, connection.type, connection.laddr.ip, connection.laddr.port))
    return found


def unix_sockets(pid: int) -> set[str]:
    """Return the Unix socket names of a process and its descendants; names that are not files begin with NUL or @."""
    found = set()
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found |= {str(connection.laddr) for connection in process.net_connections("unix") if connection.laddr}
    return found


def outside() -> list[str]:
    """Return the machine's addresses at which a socket bound to 127.0.0.1, and so closed to the network, is silent."""
    addresses = [
        address.address
        for of_interface in psutil.net_if_addrs().values()
        for address in of_interface
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return ["127.0.0.2", *(address for address in addresses if address not in ("127.0.0.1", "::1"))]


def lets_in(host: str, port: int) -> bool:
    """Return whether a TCP connection is accepted."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def ask_http(port: int, method: str, path: str, body: object = None) -> tuple[int, str] | None:
    """Return the status and text of a loopback port's answer, or None if it does not speak HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def grpc_methods() -> list[tuple[str, bool]]:
    """Return the path of every gRPC method of Ray, and whether it streams its answer."""
    import ray.core.generated

    # The package lacks the module of this service.
    found = [(f"/ray.rpc.ObjectManagerService/{name}", False) for name in ("Push", "Pull", "FreeObjects")]
    for module in pkgutil.iter_modules(ray.core.generated.__path__, "ray.core.generated."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                found += [
                    (f"/{service.full_name}/{method.name}", method.server_streaming) for method in service.methods
                ]
    return found


def ask_grpc(port: int, methods: list[tuple[str, bool]]) -> dict[str, set[str]]:
    """Send each method an empty message on a loopback port; return the methods by the status of the answer."""
    statuses: dict[str, set[str]] = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for path, streams in methods:
            method = (channel.unary_stream if streams else channel.unary_unary)(path)
            try:
                answer = method(b"", timeout=5)
                if streams:
                    next(iter(answer))
                status = "OK"
            except grpc.RpcError as error:
                status = error.code().name
            except StopIteration:
                status = "OK"
            statuses.setdefault(status, set()).add(path)
            if status == "UNAVAILABLE":  # the port does not speak gRPC, so skip the other methods
                break
    return statuses

"""Ray's authentication: the variables that control it, and whether a cluster asks for a token."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]
from ray._raylet import (  # type: ignore[attr-defined]
    AuthenticationMode,
    AuthenticationTokenLoader,
    Config,
    get_authentication_mode,
)
from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # type: ignore[attr-defined]
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable

_PATIENCE_S = 20.0
_NO_PROXY = (("grpc.enable_http_proxy", 0),)
"""Options of Ray's own connections."""


@contextmanager
def variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables within the block and make Ray read them. None removes a variable."""
    earlier = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(earlier)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    Config.initialize("")  # Ray reads mode and token once, and keeps them
    AuthenticationTokenLoader.instance().reset_cache()


def answers(gcs_address: str, *, with_token: bool) -> bool | None:
    """Return whether the cluster whose GCS is at ``host:port`` answers us; None if that cannot be determined.

    The call uses this user's token if ``with_token`` and there is one. Like Ray, it looks for the token only in mode
    ``token``: in ``RAY_AUTH_TOKEN``, in the file that ``RAY_AUTH_TOKEN_PATH`` names, and in ``~/.ray/auth_token``.
    """
    loader = AuthenticationTokenLoader.instance()
    is_sent = with_token and get_authentication_mode() == AuthenticationMode.TOKEN
    headers = loader.get_token_for_http_header() if is_sent and loader.has_token(ignore_auth_mode=True) else {}
    with grpc.insecure_channel(gcs_address, _NO_PROXY) as channel:
        try:
            NodeInfoGcsServiceStub(channel).GetAllNodeInfo(  # type: ignore[no-untyped-call]
                GetAllNodeInfoRequest(limit=1), metadata=tuple(headers.items()), timeout=_PATIENCE_S
            )
        except grpc.RpcError as error:
            return False if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
    return True

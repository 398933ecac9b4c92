"""The notebook of ``kvcomm explore`` on loopback, behind a token, until Ctrl-C.

Whoever has the token can look at the results, and with a notebook of their own run code as this user. So the token is
new each time.
"""

import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import analysis.explore
from sweeps.loopback_server import HOST, ServerError, free_port, serve

NOTEBOOK = Path(analysis.explore.__file__).parent / "notebook.py"


class ExploreError(RuntimeError):
    """The notebook cannot be served. The message is one line."""


def serve_notebook(results: Path, port: int | None, own: Path | None, say: Callable[[str], None]) -> None:
    """Serve the notebook on these results, say its address with the token, and return when interrupted.

    ``port`` None takes a free one. ``own`` is a notebook to be changed by the user: a copy, if the file is not there
    yet. Raises ``ExploreError`` if it cannot be served.
    """
    notebook = NOTEBOOK if own is None else _copied(own)
    token = secrets.token_urlsafe(24)
    try:
        port = free_port(port)
        command = [sys.executable, "-m", "marimo", "run" if own is None else "edit", str(notebook)]
        command += ["--host", HOST, "--port", str(port), "--headless", "--token", "--token-password-file", "-"]
        command += ["--skip-update-check"] if own is not None else []
        command += ["--", "--results", str(results.resolve())]
        address = f"http://{HOST}:{port}"
        serve(
            "the notebook's server",
            command,
            f"{address}/health",
            lambda: say(f"{address}/?access_token={token} (Ctrl-C ends it)"),
            environment={"MARIMO_SKIP_UPDATE_CHECK": "1"},
            secret=token,
        )
    except ServerError as error:
        raise ExploreError(str(error)) from None


def _copied(own: Path) -> Path:
    """Return the user's notebook; make it if it is not there."""
    if own.suffix != ".py":
        raise ExploreError(f"--notebook is {own}; allowed: a file that ends in .py")
    if not own.exists():
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(NOTEBOOK, own)
        except OSError as error:
            raise ExploreError(f"--notebook is {own}, which cannot be written: {error.strerror or error}") from None
    return own

"""One line where a command needs a package that is not installed.

Who only reads results installs the ``dependencies`` of pyproject.toml alone. The packages that run trials are its
extra ``run``.
"""

import importlib.util
from typing import Any, NoReturn

from typer.core import TyperGroup

from sweeps.cli.output import fail

OF_EXTRA = (
    "accelerate",
    "filelock",
    "gguf",
    "huggingface_hub",
    "math_verify",
    "mlflow",
    "ray",
    "safetensors",
    "torch",
    "transformers",
)
"""The modules of the packages of the extra ``run``; a test compares them with pyproject.toml."""

TO_RUN = ("torch", "transformers")
"""Modules without which no trial runs. Some workloads and models need more."""


class Commands(TyperGroup):
    """The commands. A package of the extra that is not installed ends one of them with a line, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was given."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name = str(error.name).partition(".")[0]
            if name not in OF_EXTRA:
                raise
            _refuse(str(ctx.invoked_subcommand), [name])


def require_packages(command: str, *names: str, instead: str = "", extra: str = "run") -> None:
    """End the command with one line if any of these modules, of an extra, is not installed.

    ``instead`` adds another way out.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        _refuse(command, missing, instead, extra)


def _refuse(command: str, missing: list[str], instead: str = "", extra: str = "run") -> NoReturn:
    install = f"pip install 'kvcomm-harness[{extra}]', or '.[{extra}]' in its source tree"
    fail(f"kvcomm {command} needs {' and '.join(missing)}, not installed here: {install}{instead}")

"""The sweep files that come with the package, by name."""

from pathlib import Path

import sweeps
from harness.natural_order import natural

FOLDERS = ("", "paper", "examples")
"""Their folders, below this package."""


def shipped_sweeps() -> dict[str, Path]:
    """Return the sweep files by name, folder by folder."""
    folders = [Path(sweeps.__file__).parent / folder for folder in FOLDERS]
    files = [sorted(folder.glob("*.yaml"), key=lambda file: natural(file.stem)) for folder in folders]
    return {file.stem: file for found in files for file in found}


def complete_sweep(incomplete: str) -> list[str]:
    """Return what a shell offers for SWEEP: shipped names, then the YAML files and folders that begin so."""
    names = [name for name in shipped_sweeps() if name.startswith(incomplete)]
    here = sorted(Path().glob(f"{incomplete}*") if incomplete[:1] not in ("/", "~", ".") else ())
    files = [f"{path}/" if path.is_dir() else str(path) for path in here if path.is_dir() or path.suffix == ".yaml"]
    return [*names, *(file for file in files if file not in names)]

"""Save figures as files: vector formats for papers, PNG for pages, and the numbers as CSV.

Equal results give equal bytes: the files hold no dates and no random ids.
"""

from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib

from analysis.figures.all_figures import draw_sweep
from analysis.figures.parts.drawing import Drawn, NothingToDrawError
from analysis.figures.parts.styles import DEFAULT_STYLE, in_style
from analysis.results import Results

Kind = Literal["svg", "pdf", "png"]

PRINT_DPI = 300
_METADATA: dict[Kind, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


@dataclass(frozen=True, slots=True)
class Saved:
    """A figure that was written."""

    sweep: str
    name: str
    files: list[str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A figure that a sweep's results cannot fill."""

    sweep: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SavedFigures:
    """The outcome of every figure of every sweep."""

    saved: list[Saved]
    left_out: list[LeftOut]

    n_sweeps: int

    def in_no_sweep(self) -> list[LeftOut]:
        """Return one entry for each figure that no sweep can fill."""
        by_name: dict[str, list[LeftOut]] = {}
        for one in self.left_out:
            by_name.setdefault(one.name, []).append(one)
        return [found[0] for found in by_name.values() if len(found) == self.n_sweeps]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def save_figures(results: Results, out: Path, style: str = DEFAULT_STYLE) -> SavedFigures:
    """Write the figures of each sweep to ``out/SWEEP/``, after all are drawn: a damaged file leaves no half of them.

    ``style`` is one of ``STYLES``. Raises ``StoreError``, or ``OSError`` if ``out`` cannot be written.
    """
    saved, left_out = [], []
    with in_style(style):
        drawings = [(sweep, *figure) for sweep in results.sweeps for figure in draw_sweep(results.of_sweep(sweep))]
    for sweep, name, drawn in drawings:
        if isinstance(drawn, NothingToDrawError):
            left_out.append(LeftOut(sweep, name, str(drawn)))
            continue
        saved += [Saved(sweep, one.name, [str(path) for path in save(one, out / sweep)]) for one in drawn]
    return SavedFigures(saved, left_out, len(results.sweeps))


def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Write ``NAME.svg``, ``.pdf``, ``.png`` and ``.csv``. Create the folder if needed. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in _METADATA:
        paths.append(folder / f"{drawn.name}.{kind}")
        paths[-1].write_bytes(encoded(drawn, kind))
        drawn.figure.set_layout_engine("none")  # the layout is done, and takes as long as all the rest
    paths.append(folder / f"{drawn.name}.csv")
    drawn.data.to_csv(paths[-1], index=False)
    return paths


def encoded(drawn: Drawn, kind: Kind, dpi: int = PRINT_DPI) -> bytes:
    """Return the picture as the content of a file; ``dpi`` is the resolution of raster parts."""
    content = BytesIO()
    # Text stays text, to be searched, edited and read aloud: publishers ask for TrueType fonts in PDF files. The hash
    # salt makes the ids in SVG files reproducible.
    with matplotlib.rc_context({"svg.hashsalt": drawn.name, "svg.fonttype": "none", "pdf.fonttype": 42}):
        drawn.figure.savefig(content, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return content.getvalue()

"""Everything ``kvcomm show`` prints of a results folder but the paper's tables."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType

from analysis.answers import AnswerRow, answer_rows, render_answers
from analysis.blending import BlendRow, blend_rows, render_blends
from analysis.load import Records
from analysis.speed import SpeedGrid, SpeedRow, render_grids, render_speed, speed_grids, speed_rows
from analysis.tables import CellRow, cell_rows, render_cells, render_fidelity
from harness.workloads import PROBES


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows of every table; those without rows are not printed."""

    cells: list[CellRow]
    answers: list[AnswerRow]
    speed: list[SpeedRow]
    speed_grids: list[SpeedGrid]
    blending: list[BlendRow]
    n_probes: int
    """Trials that probe keys and values and ended well; they have figures, and no tables."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def renderables(self) -> list[RenderableType]:
        """Those that have rows, for a terminal."""
        cells: list[RenderableType] = [render_cells(self.cells)] if self.cells else []
        if self.answers:
            cells.append(Group("answers, with 95 % intervals:", render_answers(self.answers)))
        if any(row.n_checked for row in self.cells):
            cells.append(Group("compared with dense on the same prompts:", render_fidelity(self.cells)))
        timings = [*render_speed(self.speed), *render_grids(self.speed_grids), *render_blends(self.blending)]
        return [*cells, *timings]

    def print(self, console: Console) -> None:
        """One table after another, a blank line between them."""
        tables = self.renderables()
        if self.n_probes:
            console.print(
                f"{self.n_probes} probe(s) of keys and values ended well; kvcomm figures RESULTS --out DIR draws them",
                highlight=False,
            )
        elif not tables:
            console.print("no timing has finished; kvcomm status says what failed", highlight=False)
        for index, table in enumerate(tables):
            console.print(*([""] if index else []), table, sep="\n", highlight=False)


def make_tables(records: Records) -> Tables:
    """The tables of the records' sweeps."""
    speed = speed_rows(records)
    ok = records.trials[records.trials["status"] == "ok"]
    n_probes = int(ok["workload"].isin(PROBES).sum())
    return Tables(cell_rows(records), answer_rows(records), speed, speed_grids(speed), blend_rows(records), n_probes)

"""Everything that ``kvcomm show`` prints about a results folder, except the paper's tables."""

import importlib
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.kinds import kind_of
from analysis.results import Results
from analysis.tables.answer_table import answer_rows, render_answers
from analysis.tables.device_table import show_devices
from analysis.tables.fidelity_table import fidelity_rows, render_fidelity
from analysis.tables.judge_table import show_judges
from analysis.tables.no_reuse_table import show_no_reuse
from analysis.tables.promise_table import show_promises
from analysis.tables.score_table import show_scores
from analysis.tables.shown import Shown, Tables
from analysis.tables.sweep_table import cell_rows, may_reuse, render_cells, render_turns, rough_times
from harness.workloads import built_in


def make_tables(results: Results) -> Tables:
    """Build the tables of the results' sweeps."""
    kinds = [*built_in().values(), *map(kind_of, results.trials["workload"].unique())]
    views = dict.fromkeys(kind.shown_by for kind in sorted(kinds, key=lambda kind: not kind.graded))
    shown = [shown for view in views if view for shown in _function(view)(results)]
    return Tables((*shown, show_devices(results)))


def show_graded(results: Results) -> list[Shown]:
    """Return the table of each sweep, its turns, why they did not reuse, the answers with intervals, the picks of
    judges, the fidelity of the checked turns, how well scores predict it, and which promises about it were kept."""
    cells, answers, fidelity = cell_rows(results), answer_rows(results), fidelity_rows(results)
    rough = rough_times(cells)
    tables: list[RenderableType] = [Group(render_cells(cells), *([rough] if rough else []))] if cells else []
    if any(map(may_reuse, cells)):
        tables.append(
            Group(
                "reuse over all turns, and TTFT of those that reused anything beside the same turns of dense:",
                render_turns(cells),
            )
        )
    noise = ["of dense: beside dense in batches of another size, which is the noise of the rows below it"]
    caption = ["answers, with 95 % intervals:", *(noise if any(row.noise for row in answers) else [])]
    with_intervals = [Group(*caption, render_answers(answers))] if answers else []
    return [
        Shown("cells", cells, tables),
        show_no_reuse(results),
        Shown("answers", answers, with_intervals),
        *show_judges(results),
        Shown("fidelity", fidelity, render_fidelity(fidelity)),
        show_scores(results),
        show_promises(results),
    ]


def show_probes(results: Results) -> list[Shown]:
    """Count the successful probes of keys and values, which have figures but no tables."""
    names = [name for name, workload in built_in().items() if "kv_statistics" in workload.tables]
    n_probes = int(results.ok_trials["workload"].isin(names).sum())
    line = f"{n_probes} probe(s) of keys and values ended well; kvcomm figures RESULTS --out DIR draws them"
    return [Shown("n_probes", n_probes, [Text(line)] if n_probes else [])]


def _function(name: str) -> Callable[[Results], list[Shown]]:
    module, _, function = name.partition(":")
    view: Callable[[Results], list[Shown]] = getattr(importlib.import_module(module), function)
    return view

"""The notebook of ``kvcomm explore``: choose cells, plot any two measures, and go on with the tables as DataFrames.

It is a Marimo notebook, so that a cell runs again when what it uses changes. As a script it runs from top to bottom:
``python -m analysis.explore.notebook --results RESULTS``.
"""

import marimo

app = marimo.App(width="medium", app_title="kvcomm explore")


@app.cell
def _():
    import marimo as mo
    from matplotlib.figure import Figure

    from analysis.explore.frames import cells_frame, column_of
    from analysis.figures.all_figures import FIGURES
    from analysis.figures.parts.drawing import NothingToDrawError
    from analysis.figures.saving import encoded
    from analysis.report.explorer import MEASURES
    from analysis.results import Results

    return FIGURES, MEASURES, Figure, NothingToDrawError, Results, cells_frame, column_of, encoded, mo


@app.cell
def _(Results, cells_frame, mo):
    folder = str(mo.cli_args().get("results") or "results")
    results = Results(folder)
    cells = cells_frame(results)
    mo.vstack(
        [
            mo.md("# Explore results"),
            mo.plain_text(
                f"{folder}: {len(cells)} cells of {len(results.sweeps)} sweeps. `cells` is a DataFrame with a row for "
                "each;\n`results.trials`, `results.turns` and `results.samples` are the tables that it comes from."
            ),
        ]
    )
    return cells, results


@app.cell
def _(MEASURES, cells, column_of, mo):
    labels = {f"{one.label} ({one.unit})": column_of(one) for one in MEASURES if cells[column_of(one)].notna().any()}
    names = list(labels)
    x = mo.ui.dropdown(labels, value=next((name for name in names if name.startswith("TTFT")), names[0]), label="x")
    y = mo.ui.dropdown(labels, value=next((name for name in names if name.startswith("Acc")), names[-1]), label="y")
    methods = sorted(cells["method"].unique())
    sweeps = list(cells["sweep"].unique())
    chosen_methods = mo.ui.multiselect(methods, value=methods, label="methods")
    chosen_sweeps = mo.ui.multiselect(sweeps, value=sweeps, label="sweeps")
    mo.hstack([x, y, chosen_methods, chosen_sweeps], wrap=True)
    return chosen_methods, chosen_sweeps, labels, x, y


@app.cell
def _(cells, chosen_methods, chosen_sweeps):
    chosen = cells[cells["method"].isin(chosen_methods.value) & cells["sweep"].isin(chosen_sweeps.value)]
    return (chosen,)


@app.cell
def _(Figure, chosen, labels, mo, x, y):
    import io

    def scatter():
        known = chosen.dropna(subset=[x.value, y.value])
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for method, own in known.groupby("method"):
            axes.plot(own[x.value], own[y.value], "o", label=method.replace("$", r"\$"), alpha=0.7)
        says = {column: label for label, column in labels.items()}
        axes.set(xlabel=says[x.value], ylabel=says[y.value])
        axes.grid(visible=True, color="#dddddd")
        if len(known):
            axes.legend(frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120)
        return content.getvalue(), len(known)

    picture, shown = scatter()
    mo.image(picture, alt=f"{shown} cells: {y.value} over {x.value}")
    return picture, shown


@app.cell
def _(chosen, mo):
    mo.ui.table(chosen, selection=None)
    return


@app.cell
def _(FIGURES, mo, results):
    mo.md("## A figure of a sweep")
    figure_name = mo.ui.dropdown(list(FIGURES), value="accuracy_ttft", label="figure")
    figure_sweep = mo.ui.dropdown(results.sweeps, value=results.sweeps[0], label="sweep")
    mo.hstack([figure_name, figure_sweep], justify="start")
    return figure_name, figure_sweep


@app.cell
def _(FIGURES, NothingToDrawError, encoded, figure_name, figure_sweep, mo, results):
    try:
        drawn = FIGURES[figure_name.value].draw(results.of_sweep(figure_sweep.value))
    except NothingToDrawError as nothing:
        drawn, missing = [], str(nothing)
    else:
        missing = ""
    pictures = [mo.image(encoded(one, "png", dpi=150), alt=one.name) for one in drawn]
    mo.vstack([mo.plain_text(missing), *pictures])
    return (drawn,)


if __name__ == "__main__":
    app.run()

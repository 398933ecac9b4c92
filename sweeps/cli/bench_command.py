"""``kvcomm bench``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from harness.environment import capture_environment, measure_load
from sweeps.cli.options import Json
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.status.waiting import moving_bar
from sweeps.wording import say

if TYPE_CHECKING:
    from sweeps.bench.flips import Flips
    from sweeps.bench.measuring import BenchRow


def bench(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="A model, as in a sweep file.")] = "embedded",
    prompt_tokens: Annotated[int, typer.Option("--prompt", min=2, help="Tokens of the prompt.")] = 256,
    new_tokens: Annotated[int, typer.Option("--tokens", min=2, help="Tokens to decode.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; each runs every engine once.")] = 5,
    llama_cpp: Annotated[
        Path | None,
        typer.Option("--llama-cpp", metavar="PYTHON", help="Python of an environment with the package xllamacpp."),
    ] = None,
    texts: Annotated[
        int,
        typer.Option("--flips", metavar="TEXTS", min=0, help="Count other choices than transformers' along N texts."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Print tokens a second on this CPU: the engine, transformers, llama.cpp, and what the machine allows."""
    if llama_cpp is not None and not llama_cpp.is_file():
        fail(f"--llama-cpp is {llama_cpp}; allowed: the Python of an environment with the package xllamacpp")
    import torch

    from harness.environment import usable_cores
    from sweeps.bench.measuring import BenchOptions, run_bench

    torch.set_num_threads(usable_cores())
    options = BenchOptions(
        model=model,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        rounds=rounds,
        llama_cpp=llama_cpp,
        texts=texts,
    )
    console, before = make_console(), measure_load()
    with one_line_errors():
        try:
            with moving_bar(console, "measuring", keep=False):
                rows, flips = run_bench(options)
        except ValueError as error:
            fail(str(error))
    others = measure_load().others_since(before)
    environment = capture_environment()
    if as_json:
        tables = {"rows": [asdict(row) for row in rows], "flips": [asdict(one) for one in flips]}
        print_json({**tables, "others_cpu_s": others, "environment": asdict(environment)})
        return
    commit = (environment.git_commit or "unknown")[:7]
    cores = f"{environment.threads} threads, {torch.backends.cpu.get_cpu_capability()}"
    say(console, f"{model} at {commit} on {environment.cpu}, {cores}; batch 1, {prompt_tokens} + {new_tokens} tokens, ")
    say(console, f"median of {rounds} rounds; other processes, llama.cpp among them, used {others:.1f} s of CPU")
    console.print(_table(rows))
    if flips:
        say(console, "")
        say(console, f"tokens chosen otherwise than by transformers, along {texts} random texts:")
        console.print(_flips_table(flips))


def _table(rows: "list[BenchRow]") -> Table:
    table = Table("tokens/s", box=None, pad_edge=False)
    for heading in ("decode", "of ours", "prefill", "of ours"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        rates = (_number(row.decode, "{:.1f}"), _number(row.decode_ratio, "{:.2f}x"))
        table.add_row(row.name, *rates, _number(row.prefill, "{:.0f}"), _number(row.prefill_ratio, "{:.2f}x"), row.note)
    return table


def _flips_table(flips: "list[Flips]") -> Table:
    table = Table("", box=None, pad_edge=False)
    for heading in ("flips", "of", "widest gap, nats"):
        table.add_column(heading, justify="right")
    for one in flips:
        table.add_row(one.name, f"{one.flips:,}", f"{one.positions:,}", _number(one.widest_gap, "{:.1e}"))
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)

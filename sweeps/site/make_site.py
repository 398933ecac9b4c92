"""Build the documentation site: ``python -m sweeps.site.make_site [--without-report]``, or ``make site``.

The pages are the README files of the repository, FINDINGS.md, the report on the shipped results, and references made
of the code: fields of sweep files, columns of the results, commands. They are written to ``build/pages``, from which
MkDocs makes ``build/site``. It checks every link and anchor, and a wrong one ends the build with its name.
"""

import argparse
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import typer.main

from analysis.report.page import render_report
from sweeps.cli import app
from sweeps.language.column_docs import columns
from sweeps.language.field_docs import FieldDoc, dotted_fields, settings, trial_fields
from sweeps.plan.planned_trials import planned_trials

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "build" / "pages"
SHIPPED = ROOT / "analysis" / "embedded"

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
_NO_REPORT = "The site was built without it. `kvcomm report analysis/embedded --out report.html` writes it."


def main() -> int:
    """Write the pages and build the site. Return MkDocs' exit code, or 2 if it is not installed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--without-report", action="store_true", help="leave out the report, which takes most time")
    asked = parser.parse_args()
    if missing := [name for name in ("mkdocs", "material") if importlib.util.find_spec(name) is None]:
        print(f"site: {' and '.join(missing)} not installed; make site installs constraints-pages.txt", file=sys.stderr)  # noqa: T201
        return 2
    write_pages(PAGES, with_report=not asked.without_report)
    config = Path(__file__).with_name("mkdocs.yml")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config)]
    # Not --quiet, with which MkDocs does not count its warnings, so that a broken link would pass.
    return subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode  # noqa: S603


def write_pages(out: Path, *, with_report: bool) -> None:
    """Write all pages and the files that they link to into an empty folder ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    for page in page_files():
        target = out / page
        target.parent.mkdir(parents=True, exist_ok=True)
        text, linked = for_site((ROOT / page).read_text(encoding="utf-8"), PurePosixPath(page))
        target.write_text(text, encoding="utf-8")
        for file in linked:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, out / file)
    for name, text in (("fields", fields_page()), ("columns", columns_page()), ("commands", commands_page())):
        (out / f"{name}.md").write_text(text, encoding="utf-8")
    about = "[The report on the shipped results](embedded-report.html) is one page that needs no network."
    if with_report:
        (out / "embedded-report.html").write_text(render_report(SHIPPED, planned_trials(SHIPPED)), encoding="utf-8")
    (out / "report.md").write_text(f"# Report\n\n{about if with_report else _NO_REPORT}\n", encoding="utf-8")


def page_files() -> list[str]:
    """Return the Markdown files of the repository that are pages, relative to its root."""
    listed = Path(__file__).with_name("mkdocs.yml").read_text(encoding="utf-8")
    return [page for page in re.findall(r": (\S+\.md)$", listed, re.MULTILINE) if (ROOT / page).is_file()]


def for_site(text: str, page: PurePosixPath) -> tuple[str, list[str]]:
    """Return a page as MkDocs reads it, and the files it links to that are no pages, relative to the root.

    Links to folders lead to their README if that is a page, and otherwise become plain text. GitHub begins a list
    without an empty line before it, MkDocs does not.
    """
    pages, linked = set(page_files()), []

    def changed(found: re.Match[str]) -> str:
        image, label, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = _inside(page.parent / target)
        if (ROOT / path).is_dir():
            readme = f"{path}/README.md"
            return f"[{label}]({target.rstrip('/')}/README.md{anchor})" if readme in pages else label
        if path not in pages and (ROOT / path).is_file():
            linked.append(path)
        return f"{image}[{label}]({target}{anchor})"

    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        is_item = re.match(r"(- |\d+\. )", line) is not None
        if is_item and not fenced and lines and lines[-1].strip() and not re.match(r"(- |\d+\. |\s)", lines[-1]):
            lines.append("")
        lines.append(line)
    return _LINK.sub(changed, "\n".join(lines) + "\n"), linked


def _inside(path: PurePosixPath) -> str:
    """Return a path without ``..``."""
    parts: list[str] = []
    for part in path.parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def fields_page() -> str:
    """Return the reference of what a sweep file may set."""
    parts = [
        "# Fields of sweep files",
        "`kvcomm list fields` prints the same, `kvcomm schema` a JSON Schema for editors.",
    ]
    parts += ["## The sweep", _fields((field.name, field) for field in settings())]
    parts += ["## The trial", "Each may also be an axis under `grid`.", _fields((f.name, f) for f in trial_fields())]
    owned: dict[str, list[tuple[str, FieldDoc]]] = {}
    for name, owner, field in dotted_fields():
        owned.setdefault(owner, []).append((name, field))
    for owner, fields in owned.items():
        parts += [f"## {owner[0].upper()}{owner[1:]}", _fields(fields)]
    return "\n\n".join(parts) + "\n"


def _fields(fields: Iterable[tuple[str, FieldDoc]]) -> str:
    return _table(
        ("field", "default", "meaning"),
        ((f"`{name}`", _default(field), field.text.replace("``", "`")) for name, field in fields),
    )


def _default(field: FieldDoc) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    value = field.default
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def columns_page() -> str:
    """Return the data dictionary, a table for each table of the results."""
    described = list(columns())
    parts = ["# Columns of the results", "`kvcomm schema --columns` prints the same. Units are in the names, too."]
    for table in dict.fromkeys(column.table for column in described):
        own = [column for column in described if column.table == table]
        rows = ((f"`{one.name}`", one.type, one.unit or "", f"{one.meaning}{_null(one.null_when)}") for one in own)
        parts += [f"## {table}", _table(("column", "type", "unit", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _null(when: str | None) -> str:
    return f" Null {when}." if when else ""


def commands_page() -> str:
    """Return what each command is for, with its arguments and options."""
    group = typer.main.get_group(app)
    parts = ["# Commands", "`kvcomm COMMAND --help` prints the same."]
    for name, command in group.commands.items():
        context = command.context_class(command, info_name=name)
        rows = [record for option in command.params if (record := option.get_help_record(context))]
        usage = " ".join(["kvcomm", name, *command.collect_usage_pieces(context)])
        parts += [f"## {name}", f"`{usage}`", command.help or ""]
        if rows:
            parts.append(_table(("option", "meaning"), ((f"`{option}`", text) for option, text in rows)))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"

    return "\n".join([line(head), line("---" for _ in head), *[line(row) for row in rows]])


def _cell(text: str) -> str:
    """Escape what would end a cell or begin a tag."""
    text = " ".join(text.split()).replace("|", r"\|")
    return text if text.startswith("`") else text.replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())

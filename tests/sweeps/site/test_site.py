"""The documentation site: its pages, and a build that checks every link."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from harness.results.arrow_schemas import RECORDS
from sweeps.cli import app
from sweeps.site import make_site

ROOT = Path(__file__).parents[3]


def test_every_page_of_the_repository_is_on_the_site():
    """Catches a README that is written and never shown."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(make_site.page_files()) == set(listed.split())


def test_references_are_complete():
    """Catches a field, column or command that its reference lacks, and a cell that breaks the table."""
    fields, columns, commands = make_site.fields_page(), make_site.columns_page(), make_site.commands_page()
    assert {"`kvcomm.gamma`", "`agents`", "`workload.limit`"} <= set(re.findall(r"`[^`]+`", fields))
    assert set(re.findall(r"^## (\w+)$", columns, re.MULTILINE)) == set(RECORDS)
    names = {(one.name or one.callback.__name__).replace("_", "-") for one in app.registered_commands}
    assert set(re.findall(r"^## ([\w-]+)$", commands, re.MULTILINE)) == names
    for page in (fields, columns, commands):
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_links():
    """Catches a link to a folder, which a site does not have, a file left behind, and a list without its line."""
    text = "All:\n- [a](../notebooks)\n- [b](../../harness)\n- [c](../claims.yaml)\n- [d](../FINDINGS.md#x)\n"
    changed, linked = make_site.for_site(text, PurePosixPath("analysis/embedded/README.md"))
    assert changed == ("All:\n\n- a\n- [b](../../harness/README.md)\n- [c](../claims.yaml)\n- [d](../FINDINGS.md#x)\n")
    assert linked == ["analysis/claims.yaml"]
    fenced = "```\nx\n- y\n```\n"
    assert make_site.for_site(fenced, PurePosixPath("README.md"))[0] == fenced


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None,
    reason="needs MkDocs Material, the extra docs: pip install --no-deps --require-hashes -r constraints-pages.txt",
)
def test_the_site_builds(tmp_path):
    """Catches a broken link or anchor, an unknown page, and a page that asks another server for anything."""
    make_site.write_pages(tmp_path / "pages", with_report=False)
    config = Path(make_site.__file__).with_name("mkdocs.yml").read_text(encoding="utf-8")
    config = config.replace("../../build/pages", "pages").replace("../../build/site", "site")
    (tmp_path / "mkdocs.yml").write_text(config, encoding="utf-8")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(make_site.page_files()) + 4
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', html), page
    (tmp_path / "pages" / "README.md").write_text("[gone](nowhere.md)\n", encoding="utf-8")
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr

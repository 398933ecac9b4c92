"""gsm8k: grade-school mathematics word problems (Cobbe et al. 2021, arXiv 2110.14168), the 1,319 of the test split.

The problems come from a local jsonl file or from the Hugging Face Hub; they are not part of this project. They are
kept in the order of the file. Grading is numeric and exact; ``numbers.py`` says which number of an answer counts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's own, under whatever name

from harness.workloads.base import DataMissingError, Grade, Item
from harness.workloads.numbers import final_number, numerals
from kvcomm_core.config import require

DEFAULT_PATH = Path("data/gsm8k_test.jsonl")
"""Looked for under the current directory before the Hub is asked."""

_HUB: dict[str, Any] = {
    "repo_id": "openai/gsm8k",
    "repo_type": "dataset",
    "revision": "740312add88f781978c0658806c59bc2815b9866",
    "filename": "main/test-00000-of-00001.parquet",
}
_HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsm8kSpec:
    """Parameters of the ``gsm8k`` workload."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: Literal["gsm8k"] = "gsm8k"

    limit: int | None = None
    """Number of items, from the start of the file; None for all. At least 1."""

    path: str | None = None
    """A jsonl file with the fields ``question`` and ``answer``. None: ``data/gsm8k_test.jsonl`` under the current
    directory if there is one, else the Hub."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "workload.limit", self.limit, "1 or more, or null for all")
        require(self.path is None or bool(self.path.strip()), "workload.path", self.path, "a file's path, or null")


def available(spec: Gsm8kSpec) -> str | None:
    """None if the data is at hand or the Hub can be reached, else one line saying why not. Takes seconds at most."""
    path = _local_path(spec)
    if path is not None:
        return None if path.is_file() else f"no such file: {path}"
    if isinstance(try_to_load_from_cache(**_HUB), str):
        return None
    try:
        get_hf_file_metadata(hf_hub_url(**_HUB), timeout=_HUB_TIMEOUT_S)
    except (HTTPError, OSError) as error:
        return f"no file {DEFAULT_PATH} here, and the Hub cannot be reached ({str(error).splitlines()[0]})"
    return None


def load(spec: Gsm8kSpec, seed: int) -> list[Item]:  # noqa: ARG001 - file order, whatever the seed
    """The first ``spec.limit`` problems, in file order.

    Raises ``DataMissingError`` if the data is not at hand, and ``ValueError`` if it is malformed (naming file, line
    and field) or holds fewer than ``spec.limit`` problems.
    """
    # hf_hub_download alone would retry for half a minute before it says that there is no network.
    missing = available(spec)
    if missing is not None:
        raise DataMissingError(
            f"gsm8k: {missing}. Either set workload.path to a jsonl file, or put one at {DEFAULT_PATH} under the "
            f"current directory, or, with network, fetch it into the Hub's cache: hf download {_HUB['repo_id']} "
            f"{_HUB['filename']} --repo-type dataset --revision {_HUB['revision']}"
        )
    path = _local_path(spec) or Path(hf_hub_download(**_HUB))
    items = [_item(path, line, row) for line, row in enumerate(_rows(path), start=1)]
    most = f"1 to {len(items)}, the number of items in {path}"
    require(bool(items) and (spec.limit or 1) <= len(items), "workload.limit", spec.limit, most)
    return items[: spec.limit]


def grade(item: Item, answer: str) -> Grade:
    """Whether the number the answer ends on equals the expected one; rules and reasons are those of ``numbers.py``."""
    found, rule = final_number(answer)
    if found is None:
        return Grade("unparsable", None, rule)
    [expected] = numerals(item.expected)
    return Grade("correct" if found.value == expected.value else "wrong", found.text, rule)


def _local_path(spec: Gsm8kSpec) -> Path | None:
    if spec.path is not None:
        return Path(spec.path)
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        rows: list[Any] = pq.read_table(path).to_pylist()
        return rows
    return [_json(path, line, text) for line, text in enumerate(path.read_bytes().splitlines(), start=1)]


def _json(path: Path, line: int, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} line {line}: not JSON ({error}); allowed: one JSON object per line") from None


def _item(path: Path, line: int, row: Any) -> Item:
    if not isinstance(row, dict):
        raise ValueError(f"{path} line {line}: {row!r}; allowed: an object with the fields question and answer")
    for field in ("question", "answer"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise ValueError(f"{path} line {line}: {field} is {row.get(field)!r}; allowed: text that is not empty")
    reference = row["answer"].rpartition("####")
    found = numerals(reference[2])
    if not reference[1] or len(found) != 1 or found[0].value is None:
        raise ValueError(f"{path} line {line}: answer is {row['answer']!r}; allowed: text that ends with '#### N'")
    return Item(f"gsm8k-{line - 1:04d}", row["question"].strip(), found[0].text)

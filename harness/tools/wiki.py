"""The Wiki Searcher's tool: it looks up in Wikipedia the entities that an answer marks as @entity@.

It is off unless the caller passes a ``Wiki``, since a trial that asks the network is not repeatable. A folder keeps
what was found or is known to be missing, one JSON file per entity, so that it is not asked for again. Failures are not
kept. If the tool is off or finds nothing, agents read ``NOTHING_FOUND``; the outcome in the records says which it was.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from harness.tools.base import ToolResult, clipped
from kvcomm_core.files.atomic_write import replacing
from kvcomm_core.files.regular_files import read_regular
from kvcomm_core.files.strict_json import parse_json

NOTHING_FOUND = "No entry was found for these entities."

WikiOutcome = Literal["found", "not_found", "no_entities", "unreachable", "off"]
"""The values of ``ToolResult.outcome``. ``unreachable``: nothing was found, and at least one look-up failed."""

_ENTITY = re.compile(r"@(?=\S)([^@\n]{1,80})(?<=\S)@")
_MAX_ENTITIES = 5
_MAX_BYTES = 1 << 20
_USER_AGENT = "kvcomm-harness/0.1 (benchmark of LLM agents; Python urllib)"
_WORTH_ANOTHER_TRY = {408, 429, 500, 502, 503, 504}


class LookupFailedError(Exception):
    """Wikipedia did not answer, so nothing is known about the entity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiki:
    """Wikipedia, through the summary endpoint of its REST API."""

    cache: Path
    """Folder of earlier results; created if it does not exist."""

    url: str = "https://en.wikipedia.org/api/rest_v1/page/summary/"
    """URL to which a page's title is appended."""

    timeout_s: float = 5.0
    """Limit of one attempt, in seconds."""

    attempts: int = 3
    """Maximum number of attempts per entity."""

    backoff_s: float = 0.5
    """Pause after the first failed attempt, in seconds; it doubles with each further one."""

    def summary(self, entity: str) -> str | None:
        """Return the first paragraph of the page with that title; None if there is none, or it only lists meanings.

        Raise ``LookupFailedError`` if no attempt got an answer.
        """
        url = self.url + quote(entity.strip().replace(" ", "_"), safe="")
        cached = self.cache / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
        try:
            return _kept(read_regular(cached, _MAX_BYTES))
        except (OSError, ValueError):  # missing or incomplete: ask, and write it again
            pass
        summary = self._fetch(url)
        with replacing(cached, self.cache / ".partial", synced=False) as new:
            new.write_text(json.dumps({"url": url, "summary": summary}), encoding="utf-8")
        return summary

    def _fetch(self, url: str) -> str | None:
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.backoff_s * 2 ** (attempt - 1))
            try:
                return _summary(self._get(url))
            except HTTPError as error:
                if error.code == 404:
                    return None
                reason = f"HTTP {error.code}"
                if error.code not in _WORTH_ANOTHER_TRY:
                    break
            except (URLError, HTTPException, OSError, ValueError) as error:
                reason = str(error)
        raise LookupFailedError(f"{url}: {reason}")

    def _get(self, url: str) -> bytes:
        request = Request(url, headers={"User-Agent": _USER_AGENT, "Accept": "application/json"})  # noqa: S310 - below
        deadline = time.monotonic() + self.timeout_s
        content = b""
        response: HTTPResponse
        with build_opener(_SameHost).open(request, timeout=self.timeout_s) as response:
            while chunk := response.read1(1 << 16):
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise ValueError(f"more than {_MAX_BYTES} bytes")
                if time.monotonic() > deadline:  # the socket's own limit restarts with every piece
                    raise TimeoutError("timed out")
        return content


class _SameHost(HTTPRedirectHandler):
    """Follows redirects to a page's other titles, but not to another server."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise HTTPError(newurl, code, "redirected to another server", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def look_up(answer: str, wiki: Wiki | None) -> ToolResult:
    """Return what Wikipedia says about the entities marked in ``answer``, a paragraph each; ``wiki`` is None if it
    is off."""
    if wiki is None:
        return ToolResult(NOTHING_FOUND, "off")
    names = entities(answer)
    if not names:
        return ToolResult(NOTHING_FOUND, "no_entities")
    found = []
    failed = False
    for name in names:
        try:
            summary = wiki.summary(name)
        except LookupFailedError:
            failed = True
            continue
        if summary is not None:
            found.append(f"{name}: {summary}")
    if found:
        return ToolResult(clipped("\n".join(found)), "found")
    return ToolResult(NOTHING_FOUND, "unreachable" if failed else "not_found")


def entities(answer: str) -> list[str]:
    """Return the first five different entities marked as @entity@, in order."""
    return list(dict.fromkeys(_ENTITY.findall(answer)))[:_MAX_ENTITIES]


def _kept(content: bytes) -> str | None:
    """Read an earlier result. Raise ``ValueError`` if the file is not one of ours."""
    page = parse_json(content.decode())
    if not isinstance(page, dict) or "summary" not in page or not isinstance(page["summary"], str | None):
        raise ValueError("no summary in the file")
    summary: str | None = page["summary"]
    return summary


def _summary(content: bytes) -> str | None:
    """Return the text of an answer of the API. Raise ``ValueError`` if it is none."""
    page = parse_json(content.decode())
    if not isinstance(page, dict) or not isinstance(page.get("extract"), str):
        raise ValueError("no summary in the answer")
    text = page["extract"].strip()
    return None if not text or page.get("type") == "disambiguation" else text

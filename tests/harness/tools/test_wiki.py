"""The Wikipedia lookup, against a server on the loopback that plays Wikipedia."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.tools.base import MAX_TEXT_CHARS, ToolResult
from harness.tools.wiki import NOTHING_FOUND, LookupFailedError, Wiki, entities, look_up

Answer = tuple[int, dict[str, str], bytes]


def page(extract: object, **fields: object) -> Answer:
    return 200, {}, json.dumps({"type": "standard", "extract": extract, **fields}).encode()


class Server:
    """Gives the answers of a page one after the other, the last one again and again, and 404 for other pages."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Answer]] = {}
        self.requests: list[str] = []
        self.agents: set[str | None] = set()
        self.hang = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.agents.add(self.headers["User-Agent"])
                answers = outer.pages.get(self.path, [(404, {}, b"{}")])
                code, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                if code == 0:  # no answer at all
                    outer.hang.wait(30)
                    return
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/summary/"
        # It looks twice a second by default whether it is to end, and nearly every test ends one.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.hang.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def wiki(server: Server, tmp_path: Path) -> Wiki:
    return Wiki(cache=tmp_path / "cache", url=server.url, timeout_s=5, backoff_s=0)


def test_found(server: Server, wiki: Wiki) -> None:
    """Catches a title that is not escaped, an unnamed client and entities in another order."""
    server.pages["/summary/Ada_Lovelace"] = [page("Ada wrote programs.")]
    server.pages["/summary/AC%2FDC%3F"] = [page("A band.")]
    result = look_up("See @AC/DC?@ and @Ada Lovelace@, then @AC/DC?@ and @nobody at all@.", wiki)
    assert result == ToolResult("AC/DC?: A band.\nAda Lovelace: Ada wrote programs.", "found")
    assert server.requests == ["/summary/AC%2FDC%3F", "/summary/Ada_Lovelace", "/summary/nobody_at_all"]
    assert all(agent and agent.startswith("kvcomm-harness/") for agent in server.agents)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("no marks", "no_entities"), ("mail a@b.org", "no_entities"), ("@missing@", "not_found"), ("@list@", "not_found")],
)
def test_nothing_found(server: Server, wiki: Wiki, answer: str, outcome: str) -> None:
    """Catches a missing page, or one that only lists meanings, that is not told from a found one."""
    server.pages["/summary/list"] = [page("List may refer to:", type="disambiguation")]
    assert look_up(answer, wiki) == ToolResult(NOTHING_FOUND, outcome)


def test_off() -> None:
    """Catches a look-up that nobody asked for."""
    assert look_up("@Ada Lovelace@", None) == ToolResult(NOTHING_FOUND, "off")


def test_entities() -> None:
    """Catches marks that run over lines or pair up wrongly, repeats, and a flood of requests."""
    assert entities("@a@ text @b c@") == ["a", "b c"]
    assert entities("@a\nb@ @ c @ @d@") == ["d"]
    assert entities(" ".join(f"@{n % 7}@" for n in range(20))) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("first", [(500, {}, b""), (429, {}, b""), (200, {}, b"{"), (200, {}, b"[]"), page(None)])
def test_tries_again(server: Server, wiki: Wiki, first: Answer) -> None:
    """Catches one bad answer, malformed ones included, that ends the look-up."""
    server.pages["/summary/x"] = [first, page("text")]
    assert wiki.summary("x") == "text"
    assert len(server.requests) == 2


@pytest.mark.parametrize(("answer", "requests"), [((503, {}, b""), 3), ((200, {}, b"nothing"), 3), ((403, {}, b""), 1)])
def test_gives_up(server: Server, wiki: Wiki, answer: Answer, requests: int) -> None:
    """Catches endless attempts, an attempt after a refusal, and a failure that is kept as "no such page"."""
    server.pages["/summary/x"] = [answer]
    assert look_up("@x@", wiki) == ToolResult(NOTHING_FOUND, "unreachable")
    assert len(server.requests) == requests
    server.pages["/summary/x"] = [page("text")]
    assert wiki.summary("x") == "text"


def test_backoff(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches attempts without a pause between them, or with one after the last."""
    pauses: list[float] = []
    monkeypatch.setattr("harness.tools.wiki.time.sleep", pauses.append)
    server.pages["/summary/x"] = [(500, {}, b"")]
    with pytest.raises(LookupFailedError, match="HTTP 500"):
        Wiki(cache=tmp_path, url=server.url, attempts=4, backoff_s=0.5).summary("x")
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_does_not_answer(server: Server, tmp_path: Path) -> None:
    """Catches a trial that waits forever."""
    server.pages["/summary/x"] = [(0, {}, b"")]
    with pytest.raises(LookupFailedError, match="timed out"):
        Wiki(cache=tmp_path, url=server.url, timeout_s=0.2, attempts=1).summary("x")


def test_no_server(tmp_path: Path, server: Server) -> None:
    """Catches a traceback where there is no network."""
    wiki = Wiki(cache=tmp_path, url=server.url, attempts=2, backoff_s=0)
    server.close()
    assert look_up("@x@", wiki) == ToolResult(NOTHING_FOUND, "unreachable")


def test_redirect(server: Server, wiki: Wiki) -> None:
    """Catches a page under another title that is not found, and a redirect that leads to another server."""
    server.pages["/summary/old"] = [(302, {"Location": "new"}, b"")]
    server.pages["/summary/new"] = [page("text")]
    assert wiki.summary("old") == "text"
    server.pages["/summary/away"] = [(302, {"Location": "http://localhost:1/summary/new"}, b"")]
    with pytest.raises(LookupFailedError, match="HTTP 302"):
        wiki.summary("away")


def test_a_huge_answer(server: Server, wiki: Wiki) -> None:
    """Catches an answer that is read without limit."""
    server.pages["/summary/x"] = [page("x" * (2 << 20))]
    with pytest.raises(LookupFailedError, match="more than"):
        wiki.summary("x")


def test_a_long_text_is_cut(server: Server, wiki: Wiki) -> None:
    """Catches a prompt that grows with a page."""
    server.pages["/summary/x"] = [page("y" * 3000)]
    assert look_up("@x@", wiki).text == f"x: {'y' * (MAX_TEXT_CHARS - 3)}\n[1003 more characters]"


def test_cache_needs_no_server(server: Server, wiki: Wiki) -> None:
    """Catches a second request for what is known, whether found or known to be missing."""
    server.pages["/summary/x"] = [page("text")]
    before: list[Callable[[], object]] = [lambda: wiki.summary("x"), lambda: wiki.summary("missing")]
    assert [ask() for ask in before] == ["text", None]
    assert [ask() for ask in before] == ["text", None]
    assert len(server.requests) == 2
    assert len(list(wiki.cache.glob("*.json"))) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"summary": 3}', "[" * 100_000, '{"summary": "\\ud800"}'])
def test_a_torn_cache_file(server: Server, wiki: Wiki, content: str) -> None:
    """Catches a file that was cut short and then ends every later trial."""
    server.pages["/summary/x"] = [page("text")]
    wiki.summary("x")
    [file] = wiki.cache.glob("*.json")
    file.write_text(content)
    assert wiki.summary("x") == "text"
    assert json.loads(file.read_text())["summary"] == "text"

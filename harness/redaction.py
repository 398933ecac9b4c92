"""Removal of passwords, tokens and keys from text before it enters a message, a log line or a record.

Errors of MLflow, SQLAlchemy and requests quote the address they were given, with everything in it.
"""

import re
from urllib.parse import unquote, unquote_plus, urlsplit

HIDDEN = "***"

_HIDING = r"[\w.-]*(?:passw(?:or)?d|pwd|secret|token|api_?key|access_?key|account_?key|credential|sig(?:nature)?)"
"""Names of parameters whose values are hidden."""

_PATTERNS = (
    # The part before the host of an address. A password may hold characters that belong escaped: ":/?#@".
    (re.compile(r"(://)(?:[^\s/?#'\"<>]{0,500}|[^\s/@'\"<>]{0,500}:[^\s@'\"<>]{0,500})@(?:[^\s/?#'\"<>]{0,500}@)?"),
        rf"\1{HIDDEN}@"),
    # Parameters of an address, also where the whole address is a value in another one.
    (re.compile(rf"((?:[?&;]|%3[Ff]|%26|%3[Bb]){_HIDING}(?:=|%3[Dd]))[^\s&;#'\"<>%]*(?:%(?!26|3[Bb])[^\s&;#'\"<>%]*)*",
        re.IGNORECASE), rf"\1{HIDDEN}"),
    # Settings of database drivers, and how Python prints them: password=x, PWD={x}, 'password': 'x'.
    (re.compile(r"((?:passw(?:or)?d|pwd)['\"]?\s{0,9}[=:]\s{0,9})"
        r"(?:'[^']{0,500}'|\"[^\"]{0,500}\"|\{[^}]{0,500}\}|[^\s,;&)'\"]+)",
        re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(authorization['\"]?\s{0,9}[=:]\s{0,9}['\"]?(?:\w+\s{1,9})?)[^\s,;'\"]{4,}", re.IGNORECASE),
        rf"\1{HIDDEN}"),
    # Tokens that tell by their form what they are: those of the Hugging Face Hub.
    (re.compile(r"\bhf_[A-Za-z0-9]{20,500}\b"), HIDDEN),
)  # fmt: skip
"""Each takes a time in proportion to the text, which may be an answer of a megabyte that an error quotes: what could be
tried from every character has a longest length."""

_SHORTEST = 3
"""Shortest password, in characters, that is searched for on its own; shorter ones occur in ordinary words."""

_hidden: set[str] = set()
"""Secrets of this process that ``hide`` was told."""


def hide(*secrets: str) -> None:
    """Make ``redact`` replace these values wherever they occur, for as long as this process lives."""
    _hidden.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def names_a_secret(name: str) -> bool:
    """Return whether a variable or parameter of that name holds a secret, judging by the name."""
    return re.fullmatch(_HIDING, name, re.IGNORECASE) is not None


def redact(text: str, *uris: str) -> str:
    """Return the text with each secret replaced by ``***``.

    Everything that looks like a secret is replaced: user and password of any address, parameters such as ``?password=``
    or ``&token=``, drivers' settings, tokens of the Hugging Face Hub, and what ``hide`` was told. If ``text`` is
    somebody else's message about one of ``uris``, the secrets of that address are replaced even where they stand alone.
    Shorten a text after this step, not before.
    """
    found = {secret for uri in uris for secret in _secrets(uri)}
    for secret in sorted(found | _hidden, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def has_secret(uri: str) -> bool:
    """Return whether an address contains a secret."""
    return redact(uri) != uri


def _secrets(uri: str) -> set[str]:
    """Return the passwords and tokens in an address, both as written there and decoded."""
    _, _, rest = uri.partition("://")
    try:
        query = urlsplit(uri).query
    except ValueError:  # such as a bracket that is not closed
        query = rest.partition("?")[2]
    written: set[str] = set()
    # A password may hold an "@", and so may the part after the host. Any of them may be the one before the host.
    for at in (place.start() for place in re.finditer("@", rest)):
        user, colon, password = rest[:at].partition(":")
        if colon or "/" not in user:
            written.add(password if colon else user)
    for part in re.split("[&;]", query):
        name, _, value = part.partition("=")
        if re.fullmatch(_HIDING, unquote(name), re.IGNORECASE):
            written.add(value)
    meant = {decode(secret) for secret in written for decode in (unquote, unquote_plus)}
    return {secret for secret in written | meant if len(secret) >= _SHORTEST}

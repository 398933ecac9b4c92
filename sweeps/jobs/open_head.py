"""Whether a head takes commands from anybody: the answer of its dashboard to a question without a token."""

import urllib.error
import urllib.request

_PATIENCE_S = 10.0
_QUESTION = "/api/version"
_REFUSALS = (401, 403)


def is_open(address: str) -> bool | None:
    """Return whether the dashboard at ``http(s)://HOST:PORT`` answers a stranger. None if that cannot be determined."""
    question = urllib.request.Request(address.rstrip("/") + _QUESTION)  # noqa: S310 - the caller checked the scheme
    try:
        with urllib.request.urlopen(question, timeout=_PATIENCE_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return False if error.code in _REFUSALS else None
    except (OSError, ValueError):
        return None

"""Data and scripts inside the page, where text of models must stay data.

A browser ends a script element at ``</script``, and heeds ``<!--`` in one, whatever the JSON around it says. So
embedded JSON has no ``<``. The page's policy runs scripts by their hash alone: an injected one would not run.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("theme.js", "plot.js", "explorer.js", "conversations.js")


def script_json(content: Any) -> Markup:
    r"""Return JSON for a script element. ``<``, ``>`` and ``&`` become escapes such as ``\u003c``."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    escaped = text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
    return Markup(escaped)  # noqa: S704 - nothing in it can end the element


def page_script() -> Markup:
    """Return the page's own script: its parts, each in a function of its own."""
    parts = [(ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    text = '"use strict";\n' + "\n".join(parts)
    if "</" in text or "<!--" in text:
        raise ValueError("a script of the page holds </ or <!--, which would end or change its element")
    return Markup(text)  # noqa: S704 - files of this package


def policy(script: str) -> str:
    """Return the content security policy: no network, styles of the page, and this script alone."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    script_source = f"script-src 'sha256-{digest}'"
    return f"default-src 'none'; style-src 'unsafe-inline'; {script_source}; base-uri 'none'; form-action 'none'"

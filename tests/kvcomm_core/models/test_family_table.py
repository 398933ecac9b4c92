"""The engine's README names the families that the engine serves."""

from pathlib import Path

import kvcomm_core
from kvcomm_core.models.families import FAMILIES, REFUSED, USUAL_ROPES, Family

README = Path(kvcomm_core.__file__).parent / "README.md"
UNROTATED = {
    "none": "",
    "no_rope_layers": "layers without rotation",
    "full_attention": "no rotation where attention is full",
    "full_beside_windows": "no rotation where attention is full beside windows",
}


def own_parts(family: Family) -> str:
    """What sets a family apart, as its entry says."""
    parts = (
        "windows" if family.windows != "none" else "",
        UNROTATED[family.unrotated],
        "part of a head rotates" if family.partial else "",
        "neighbouring dimensions rotate" if family.pairs == "neighbours" else "",
        "plain attention" if family.eager else "",
        ", ".join(f"`{name}`" for name in sorted(family.scales)),
    )
    return "; ".join(part for part in parts if part) or "-"


def rows() -> list[str]:
    """The lines of the table."""
    return [
        f"| `{name}` | {family.models} | {'' if family.ropes == USUAL_ROPES else ', '.join(family.ropes)} | "
        f"{own_parts(family)} |".replace("|  |", "| all |")
        for name, family in FAMILIES.items()
    ]


def test_the_readme_lists_what_is_served() -> None:
    """Would catch a family that the README does not have, has no longer, or describes otherwise."""
    lines = README.read_text(encoding="utf-8").splitlines()
    start = lines.index("| `model_type` | models | RoPE types | its own |") + 2
    assert lines[start : start + len(FAMILIES)] == rows()
    assert not lines[start + len(FAMILIES)].startswith("|")


def test_the_readme_names_what_is_refused() -> None:
    """Would catch a reason for which models are refused that the README does not give."""
    text = README.read_text(encoding="utf-8")
    assert all(any(f"`{name}`" in text for name in REFUSED if REFUSED[name] == why) for why in set(REFUSED.values()))

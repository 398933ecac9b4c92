"""Load sweeps from text, for tests of the sweep language."""

from sweeps.language.sweep_spec import load_sweep


def sweep_of(folder, text, *overrides, limit=None, profile=None, **others):
    """Write the text to a sweep file and load it; ``others`` are files beside it, by name without ``.yaml``."""
    for name, content in others.items():
        (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path, overrides, limit, profile)

"""The order of names."""

from harness.natural_order import natural


def test_numbers_go_by_value():
    """Catches figure A.12 before figure A.3, gamma 0.25 before 0.3 told by their digits, and names that cannot be
    compared because one begins with a number."""
    names = ["figure_a12", "12", "figure_a3", "gamma=0.3", "gamma=0.25", "gamma", "figure_a4_a11", "9"]
    assert sorted(names, key=natural) == [
        "9", "12", "figure_a3", "figure_a4_a11", "figure_a12", "gamma", "gamma=0.25", "gamma=0.3",
    ]  # fmt: skip

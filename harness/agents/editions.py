"""Editions of the built-in teams: whether a team still has the prompts that the first results were made with.

A workload's own team is part of a trial without being named in it. So the identity of a trial, and its record, hold the
digest of that team once its prompts differ from the first edition's. Then no result is mistaken for one of other
prompts, and results of the first edition keep their identity.
"""

from harness.agents.team import label_of
from harness.agents.team_file import built_in_teams

FIRST_EDITION = {
    "aime": "a7883f326f31",
    "gsm8k": "b97bd0901094",
    "humaneval": "89bfa95f98a3",
    "judge": "7aed58f09ca7",
    "math500": "d2cda952e05f",
    "mmlu": "703ce0eb28ff",
    "recall": "c271c85f6892",
}
"""The digests of the teams that had no digest in the identity of a trial. They are history and never change."""


def revised_prompts(team: str | None) -> str | None:
    """Return the digest of a built-in team whose prompts are no longer those of the first edition.

    Return None for a first edition, for a team of a plug-in, whose version is in the identity, and without a team.
    """
    found = built_in_teams().get(team) if team is not None else None
    return None if found is None or found.digest == FIRST_EDITION.get(found.name) else found.digest


def built_in_label(team: str | None, prompts: str | None) -> str | None:
    """Return the label of a workload's own team: its name, with the beginning of ``revised_prompts`` if not None."""
    return team if prompts is None else label_of(team, prompts)

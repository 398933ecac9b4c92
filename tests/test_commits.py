"""Messages of commits: a subject that fits into a line of `git log`, and a body that says why and what was measured.

The rule holds for the commits after ``BEFORE_THE_RULE``. These tests would catch a subject that is cut off where
commits are listed, a change without a reason, and a check that passes whatever it is given.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BEFORE_THE_RULE = "b3078cfb6f01b37e5e078be53701c6edfcaae16a"
MADE_AT_S = 1795565614
"""When it was made, in seconds since 1970: this tells old commits from new ones in a clone that does not have it."""
LANDED_WITH_A_FAULT = ("6f2b3b9",)
"""A subject of 73 characters that landed before anybody saw it; what has landed is not rewritten."""
LONGEST_SUBJECT = 71
FEWEST_WORDS = 8
"""A body of fewer words gives no reason."""


def git(*arguments: str) -> str:
    """What git prints. Skips the test where git or the repository is missing."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs git")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the git repository of this source tree: {error.stderr.strip()}")
    return done.stdout


def messages() -> dict[str, str]:
    """The message of each commit under the rule, merges apart, by commit. A shallow clone has only some of them."""
    if Path(git("rev-parse", "--show-toplevel").strip()) != ROOT:
        pytest.skip("needs the git repository of this source tree: it lies in the repository of something else")
    has_root = bool(git("log", "-1", "--format=%H", "--ignore-missing", BEFORE_THE_RULE).strip())
    commits = git(
        "log",
        "--no-merges",
        "-z",
        "--format=%h %ct %B",
        "HEAD",
        *(["--not", BEFORE_THE_RULE] if has_root else []),
    )
    found = {}
    for commit in filter(None, commits.split("\0")):
        name, committed_at_s, message = commit.split(" ", 2)
        if (has_root or int(committed_at_s) > MADE_AT_S) and not name.startswith(LANDED_WITH_A_FAULT):
            found[name] = message
    return found


def faults(message: str) -> list[str]:
    """Where a message breaks the rule."""
    subject, _, rest = message.partition("\n")
    blank, _, body = rest.partition("\n")
    said = [line for line in body.splitlines() if not re.match(r"[A-Z][\w-]+-(by|Id): ", line)]
    found = []
    if len(subject) > LONGEST_SUBJECT:
        found.append(f"its subject has {len(subject)} characters; allowed: {LONGEST_SUBJECT} at most")
    if blank.strip():
        found.append("no blank line follows its subject")
    if len(" ".join(said).split()) < FEWEST_WORDS:
        found.append("it has no body that says why, and what was seen or measured")
    return found


def test_messages_of_the_last_commits() -> None:
    broken = {commit: found for commit, message in messages().items() if (found := faults(message))}
    assert broken == {}


BODY = "The suite took 17 minutes, since each test drew its figures anew; it takes 9 now.\n"


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (f"{'x' * 72}\n\n{BODY}", "its subject has 72 characters"),
        (f"Figures are drawn once\n{BODY}\n{BODY}", "no blank line"),
        ("Figures are drawn once\n", "no body"),
        ("Figures are drawn once", "no body"),
        ("Figures are drawn once\n\nAs discussed.\n", "no body"),
        (f"Figures are drawn once\n\n{'Signed-off-by: Some One <one@example.org>' * 3}\n", "no body"),
    ],
)
def test_messages_that_break_the_rule(message: str, fault: str) -> None:
    (found,) = faults(message)
    assert fault in found


def test_messages_that_keep_the_rule() -> None:
    assert faults(f"{'x' * 71}\n\n{BODY}\nSigned-off-by: Some One <one@example.org>\n") == []

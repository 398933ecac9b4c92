"""judge: candidates answer a question, and a judge picks one of them by its letter.

Accuracy can hold while a judge's choices change under KV reuse (arXiv 2601.08343), so the measure is whether an arm
picks what dense picks. The candidates' answers are given, the same in every arm: each runs through the model in its own
agent's prompt, where its KV arises, and the judge's prompt holds it as any answer. So both pick from the very same
prompt. Agent 1 is candidate A, agent 2 is candidate B, and so on; the last agent is the judge.

*The pick* is the letter with the largest probability at the judge's first token, among the candidates' letters: small
models rarely begin with a letter. Turns hold the logarithms of all of them (``letter_logprobs_json``), the letter as
``extracted``, and what the judge wrote as text.

*Items* without a file are stories, as in ``recall``. Several people of a story have a fact of one kind, and the
question is about one of them; a wrong candidate confuses two people. With ``path``, a row has either

- ``question`` and ``answer`` in the form of GSM8K: a worked solution whose last line is ``#### N``. The wrong
  candidates are copies with a mistake (``worked_solutions.py``); or
- ``question`` and ``candidates``, a list of two or more texts, and perhaps ``answer``, the text of the right one. The
  right one and the first others take part; without ``answer``, the first ones, and picks are not graded.

The order of the candidates is shuffled for each item. Another ``shuffle`` gives the same items and candidates another
order, and so shows how much a judge depends on it.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from harness.workloads.base import DataMissingError, Grade, Item
from harness.workloads.grading.letters import final_letter
from harness.workloads.grading.numbers import numerals
from harness.workloads.own_questions import LETTERS, digest_of
from harness.workloads.questions import QuestionWorkload
from harness.workloads.recall import ASIDES, KINDS, NAMES
from harness.workloads.sources import Row, read_rows
from harness.workloads.worked_solutions import WorkedSolution
from kvcomm_core.config import require

if TYPE_CHECKING:
    from harness.spec import TrialSpec

_MAX_ITEMS = 100_000
_OTHER_FACTS = 2
_MAX_ASIDES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec(QuestionWorkload):
    """Parameters of the ``judge`` workload."""

    picks: ClassVar[bool] = True

    name: Literal["judge"] = "judge"

    limit: int = 12
    """Number of items: generated ones, or the first of the file. 1 to 100,000."""

    candidates: int = 2
    """Number of candidates, one less than the number of agents. 2 to 4."""

    path: str | None = None
    """The file, jsonl or Parquet; None for generated stories."""

    shuffle: int = 0
    """Number of the order of the candidates: the same items, each in another order for every number. 0 to 1 for two
    candidates, to 5 for three, to 23 for four."""

    content: str | None = None
    """The first twelve hexadecimal digits of the SHA-256 of the file. A sweep sets it, so that an edited file makes new
    trials. None accepts any content."""

    def __post_init__(self) -> None:
        require(1 <= self.limit <= _MAX_ITEMS, "workload.limit", self.limit, f"1 to {_MAX_ITEMS}")
        require(2 <= self.candidates <= len(LETTERS), "workload.candidates", self.candidates, f"2 to {len(LETTERS)}")
        require(self.path is None or bool(self.path.strip()), "workload.path", self.path, "a file's path, or null")
        orders = factorial(self.candidates)
        allowed = f"0 to {orders - 1}, as {self.candidates} candidates have {orders} orders"
        require(0 <= self.shuffle < orders, "workload.shuffle", self.shuffle, allowed)

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` unless the last agent is a judge that reads every candidate once."""
        QuestionWorkload.check(self, trial)
        agents = f"{self.candidates + 1}, workload.candidates and the judge"
        require(trial.agents == self.candidates + 1, "agents", trial.agents, agents)
        require(trial.rounds == 1, "rounds", trial.rounds, "1, with workload judge")
        require(
            trial.batch_size == 1 or trial.wave is not None,
            "batch_size",
            trial.batch_size,
            "1, with workload judge, whose answers are given, or any with a wave",
        )
        everyone = tuple(range(1, trial.agents))
        reads_all = trial.graph.decision_agent == trial.agents and trial.graph.read_by(trial.agents) == everyone
        allowed = "one whose last agent decides and reads all others, such as fully_connected or debate"
        require(reads_all, "topology", trial.topology, allowed)

    def available(self) -> str | None:
        """Return None if no file is named or it is there, else one line saying that it is not."""
        return None if self.path is None or Path(self.path).exists() else f"no such file: {self.path}"

    def pinned(self) -> Self:
        """Return the workload with the digest of the file's present content, if there is one that can be read."""
        if self.path is None or self.content is not None:
            return self
        try:
            return replace(self, content=digest_of(self.path))
        except OSError:
            return self  # ``load`` says what is wrong

    def load(self, seed: int) -> list[Item]:
        """Return the first ``limit`` items. Equal parameters and seeds give equal items; a larger limit only appends
        items. The seed makes the stories, and the order of a file's candidates. Raise as ``Workload.load`` does."""
        if self.path is None:
            return self._stories(seed)
        if (missing := self.available()) is not None:
            raise DataMissingError(f"judge: {missing}. Set workload.path to a jsonl or Parquet file, or leave it out")
        if self.content is not None and (found := digest_of(self.path)) != self.content:
            allowed = f"{self.content}, the digest of the file for which the trial was planned"
            raise ValueError(f"{self.path}: its digest is {found}; allowed: {allowed}")
        rows = read_rows(Path(self.path))
        allowed = f"1 to {len(rows)}, the number of rows in {self.path}"
        require(self.limit <= len(rows), "workload.limit", self.limit, allowed)
        return [self._row_item(index, row, seed) for index, row in enumerate(rows[: self.limit])]

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Compare the one letter that the answer gives, by the rules of ``letters.py``, with that of the right
        candidate; an item may have none."""
        letter, rule = final_letter(answer, item.data)
        if not item.expected:
            return Grade(None, letter, rule)
        if letter is None:
            return Grade("unparsable", None, rule)
        return Grade("correct" if letter == item.expected else "wrong", letter, rule)

    def _stories(self, seed: int) -> list[Item]:
        rng = random.Random(f"judge {seed}")
        items: dict[str, Item] = {}
        while len(items) < self.limit:
            question, answers = _story(rng, self.candidates)
            item_id = f"judge-{hashlib.sha256(question.encode()).hexdigest()[:8]}"
            items.setdefault(item_id, self._item(item_id, question, answers, right=True, seed=seed))
        return list(items.values())

    def _row_item(self, index: int, row: Row, seed: int) -> Item:
        item_id = f"judge-{index:04d}"
        if row.fields.get("candidates") is None:
            answers = self._solutions(row, item_id)
            return self._item(item_id, row.text("question").strip(), answers, right=True, seed=seed)
        texts = row.fields["candidates"]
        fits = isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
        texts = [text.strip() for text in texts] if fits else []
        if not (self.candidates <= len(texts) == len(set(texts))):
            raise row.refuse("candidates", f"a list of {self.candidates} or more different texts")
        answer = row.fields.get("answer")
        if answer is not None:
            if not isinstance(answer, str) or answer.strip() not in texts:
                raise row.refuse("answer", "the text of one of the candidates, or null")
            texts.remove(answer.strip())
            texts.insert(0, answer.strip())
        answers = texts[: self.candidates]
        return self._item(item_id, row.text("question").strip(), answers, right=answer is not None, seed=seed)

    def _solutions(self, row: Row, item_id: str) -> list[str]:
        text, mark, end = row.text("answer").rpartition("####")
        found = numerals(end)
        if not mark or len(found) != 1 or found[0].value is None or not text.strip():
            raise row.refuse("answer", "a worked solution that ends with '#### N', or text beside candidates")
        solution = WorkedSolution(text.strip(), found[0].text)
        try:
            wrong = solution.wrong_copies(self.candidates - 1, random.Random(f"mistakes {item_id}"))
        except ValueError:
            raise row.refuse("answer", "a worked solution that ends with '#### N'") from None
        return [solution.plain, *wrong]

    def _item(self, item_id: str, question: str, answers: list[str], *, right: bool, seed: int) -> Item:
        """Return an item whose candidates are shuffled; the first of ``answers`` is the right one, if one is known to
        be."""
        first = list(range(len(answers)))
        random.Random(f"judge {seed} 0 {item_id}").shuffle(first)
        orders = list(permutations(range(len(answers))))
        order = orders[(orders.index(tuple(first)) + self.shuffle) % len(orders)]
        letters = LETTERS[: len(answers)]
        given = tuple(answers[index] for index in order)
        expected = letters[order.index(0)] if right else ""
        return Item(item_id, question, expected, letters, dict(zip(letters, given, strict=True)), given)


def _story(rng: random.Random, people: int) -> tuple[str, list[str]]:
    """Return a story with its question about one of ``people`` people who have facts of one kind, and as many answers.

    The first answer is right. Each other one confuses the person asked for with another one.
    """
    kind, *other_kinds = rng.sample(KINDS, 1 + _OTHER_FACTS)
    names = rng.sample(NAMES, people + _OTHER_FACTS)
    values = rng.sample(kind.values, people)
    sentences = [kind.sentence.format(name=name, value=value) for name, value in zip(names, values, strict=False)]
    sentences += [
        other.sentence.format(name=name, value=rng.choice(other.values))
        for other, name in zip(other_kinds, names[people:], strict=True)
    ]
    sentences += rng.sample(ASIDES, rng.randint(0, _MAX_ASIDES))
    rng.shuffle(sentences)
    asked = names[0]

    def answer(own: str, person: str, theirs: str) -> str:
        facts = [kind.sentence.format(name=name, value=value)[:-1] for name, value in ((asked, own), (person, theirs))]
        return f"The text says that {facts[0]}, and that {facts[1]}. The question is about {asked}: {own}."

    compared = rng.randrange(1, people)
    answers = [answer(values[0], names[compared], values[compared])]
    answers += [answer(values[other], names[other], values[0]) for other in range(1, people)]
    return f"{' '.join(sentences)}\n\nQuestion: {kind.question.format(name=asked)}", answers

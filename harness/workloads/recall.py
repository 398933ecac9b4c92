"""recall: generated stories of facts; the answer to a question is one of the facts.

A story tells one fact about each of several people, among sentences that set the scene:

    It was a rainy day. Nina has a pet turtle. Oscar went to Rome by train. The house was quiet. Emma plays the harp.

    Question: Which pet does Nina have?

The facts of a story are of different kinds. The embedded 135M model mixes up people who all have a pet, and a workload
on which it fails anyway would not reveal a damaged cache.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Literal

from harness.workloads.base import Grade, Item
from harness.workloads.questions import Order, QuestionWorkload, in_order
from kvcomm_core.config import require

_MAX_ITEMS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSpec(QuestionWorkload):
    """Parameters of the ``recall`` workload."""

    name: Literal["recall"] = "recall"

    limit: int = 12
    """Number of items. 1 to 100,000; these take seconds to generate."""

    facts: int = 3
    """Number of facts in a story; the question asks for one. More facts are harder. 2 to 7."""

    asides: int = 3
    """Maximum number of scene-setting sentences. Each story has 0 to this many, so that lengths vary. 0 to 12."""

    order: Order = "file"
    """The order in which the items are run, as in ``QuestionFileSpec``; ``file`` is the order of generation."""

    def __post_init__(self) -> None:
        require(1 <= self.limit <= _MAX_ITEMS, "workload.limit", self.limit, f"1 to {_MAX_ITEMS}")
        require(2 <= self.facts <= len(KINDS), "workload.facts", self.facts, f"2 to {len(KINDS)}")
        require(0 <= self.asides <= len(ASIDES), "workload.asides", self.asides, f"0 to {len(ASIDES)}")

    def load(self, seed: int) -> list[Item]:
        """Generate ``limit`` different items. Equal parameters and seeds give equal items. Before ``order`` is
        applied, a larger limit only appends items."""
        rng = random.Random(f"recall {seed}")
        items: dict[str, Item] = {}
        while len(items) < self.limit:
            item = _generate(self, rng)
            items.setdefault(item.item_id, item)
        return in_order(list(items.values()), self.order, seed)

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Grade which of the story's facts the answer names. It must name exactly one.

        Words are compared as whole words, without regard to case. Rules: ``one_named`` (correct or wrong);
        ``none_named`` and ``several_named`` (unparsable: no single answer can be read from it).
        """
        named = [value for value in item.candidates if re.search(rf"\b{re.escape(value)}\b", answer, re.IGNORECASE)]
        if len(named) != 1:
            return Grade("unparsable", None, "several_named" if named else "none_named")
        return Grade("correct" if named[0] == item.expected else "wrong", named[0], "one_named")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fact: its statement, its question, and its possible values."""

    sentence: str
    question: str
    values: tuple[str, ...]


KINDS = (
    Kind(
        "{name} has a pet {value}.",
        "Which pet does {name} have?",
        ("turtle", "rabbit", "parrot", "hamster", "goldfish", "kitten", "puppy", "lizard", "snake", "pony",
         "ferret", "canary", "spider", "frog", "duck", "mouse"),
    ),
    Kind(
        "{name} went to {value} by train.",
        "Which city did {name} go to?",
        ("Paris", "London", "Madrid", "Rome", "Berlin", "Vienna", "Lisbon", "Oslo", "Dublin", "Prague",
         "Athens", "Warsaw", "Geneva", "Milan", "Brussels", "Hamburg"),
    ),
    Kind(
        "{name} ate {value} for lunch.",
        "What did {name} eat for lunch?",
        ("soup", "pizza", "rice", "salad", "fish", "noodles", "cheese", "pancakes", "beans", "chicken",
         "potatoes", "mushrooms", "eggs", "sausages", "tacos", "curry"),
    ),
    Kind(
        "{name} works as a {value}.",
        "What does {name} work as?",
        ("baker", "doctor", "teacher", "farmer", "pilot", "painter", "lawyer", "plumber", "nurse", "waiter",
         "dentist", "carpenter", "singer", "gardener", "barber", "tailor"),
    ),
    Kind(
        "{name} plays the {value}.",
        "Which instrument does {name} play?",
        ("piano", "violin", "guitar", "trumpet", "flute", "drums", "harp", "cello", "banjo", "trombone",
         "clarinet", "organ", "tuba", "saxophone", "mandolin", "oboe"),
    ),
    Kind(
        "{name} was born in {value}.",
        "In which month was {name} born?",
        ("January", "February", "April", "June", "July", "August", "September", "October", "November", "December"),
    ),
    Kind(
        "{name} painted the door {value}.",
        "Which color did {name} paint the door?",
        ("red", "blue", "green", "yellow", "white", "black", "purple", "orange", "pink", "brown", "gray",
         "silver", "golden", "violet", "turquoise", "beige"),
    ),
)  # fmt: skip

NAMES = (
    "Nina", "Oscar", "Peter", "Laura", "Simon", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Irene",
    "James", "Karen", "Lucas", "Maria", "Nathan", "Olivia", "Paul", "Rachel", "Samuel", "Teresa", "Victor", "Wendy",
)  # fmt: skip

ASIDES = (
    "It was a rainy day.",
    "The sun was shining.",
    "It was early in the morning.",
    "It was late in the evening.",
    "The house was quiet.",
    "The week was almost over.",
    "The summer had just begun, and the days were long.",
    "The winter had been long and cold.",
    "It was the first day of the holidays.",
    "The wind was cold, and the sky was full of clouds.",
    "There was snow on the roofs and on the road.",
    "The shops were closed because it was Sunday.",
)


def _generate(spec: RecallSpec, rng: random.Random) -> Item:
    kinds = rng.sample(KINDS, spec.facts)
    names = rng.sample(NAMES, spec.facts)
    values = [rng.choice(kind.values) for kind in kinds]
    sentences = [
        kind.sentence.format(name=name, value=value) for kind, name, value in zip(kinds, names, values, strict=True)
    ]
    # An aside is never last: the embedded model takes whatever is next to the question for the answer.
    for aside in rng.sample(ASIDES, rng.randint(0, spec.asides)):
        sentences.insert(rng.randrange(len(sentences)), aside)
    asked = rng.randrange(spec.facts)
    question = f"{' '.join(sentences)}\n\nQuestion: {kinds[asked].question.format(name=names[asked])}"
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    return Item(f"recall-{digest}", question, values[asked], tuple(values))

"""Three agents of few tokens each, for tests of the engine's methods."""

import random

from tiny_models import VOCABULARY

from kvcomm_core.engine import Engine
from kvcomm_core.method import Method
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
MAX_NEW_TOKENS = 5
# Agent 1 has text around its hole; agent 2 reads with an empty text between adjacent holes; agent 3 reads one
# placeholder twice and ends in a text of a single token.
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((3, 4, 5, 30), (), (31, 32, 33)), ("user_question", "agent_1_current")),
    "3": Template(((40,), (41, 42), (43,), (44,)), ("agent_2_current", "user_question", "agent_2_current")),
}


def tokens(length: int, seed: int) -> TokenIds:
    """Return random token ids, the same for the same seed."""
    generator = random.Random(seed)
    return tuple(generator.randrange(VOCABULARY) for _ in range(length))


def engine_of(model: LoadedModel, method: Method) -> Engine:
    """Return an engine that knows the three agents."""
    engine = Engine(model, method, FILLER)
    for agent_id, template in TEMPLATES.items():
        engine.register(agent_id, template)
    return engine


def ask(engine: Engine, question: TokenIds) -> list[Turn]:
    """Take a question through the three agents in one request."""
    with engine.open() as request:
        request.provide("user_question", question)
        return [request.take_turn(agent_id, max_new_tokens=MAX_NEW_TOKENS) for agent_id in TEMPLATES]

"""An account in words and tables, 80 columns wide."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from analysis.potential.account import Account, Tally
from analysis.tables.rendering import column_table, percent
from harness.traces.tokens import ESTIMATE

MOST_PAIRS = 12
"""Maximum number of pairs of producer and reader in the table."""

WIDTH = 80


def print_account(account: Account, console: Console) -> None:
    """Print what the log's prompts could reuse, and under which conditions."""
    parts: list[RenderableType] = [Text(summary(account)), agents_table(account)]
    if account.pairs:
        parts.append(pairs_table(account))
    parts += [Group(*(Text(sentence) for sentence in verdict(account))), Group(*map(_bullet, conditions(account)))]
    for index, part in enumerate(parts):
        console.print(*([""] if index else []), part, sep="\n", highlight=False)


def summary(account: Account) -> str:
    """Return the size of the log in a sentence."""
    total = account.total
    return (
        f"{_counted(total.calls, 'call')} of {_counted(len(account.agents), 'agent')} in "
        f"{_counted(account.conversations, 'conversation')}: {total.prompt:,} tokens in prompts, {total.output:,} in "
        f"answers"
    )


def agents_table(account: Account) -> RenderableType:
    """Return the shares of each agent's prompt tokens."""
    rows = list(account.agents.items())
    if len(rows) > 1:
        rows.append(("all", account.total))

    def shares(tokens: "Sequence[int]") -> list[str]:
        return [percent(tally.share(one)) for (_, tally), one in zip(rows, tokens, strict=True)]

    tallies: list[Tally] = [tally for _, tally in rows]
    columns = [
        ("agent", [name for name, _ in rows]),
        ("calls", [f"{tally.calls:,}" for tally in tallies]),
        ("prompt\ntokens", [f"{tally.prompt:,}" for tally in tallies]),
        ("exact\nprefix", shares([tally.exact_prefix for tally in tallies])),
        ("whole\nanswers", shares([tally.whole_answers for tally in tallies])),
        ("whole\ninputs", shares([tally.whole_inputs for tally in tallies])),
        ("frag-\nments", shares([tally.fragments for tally in tallies])),
        ("new", shares([tally.new for tally in tallies])),
    ]
    return column_table(columns, left=("agent",))


def pairs_table(account: Account) -> RenderableType:
    """Return who reads whose text elsewhere, by tokens."""
    pairs = sorted(account.pairs.items(), key=lambda pair: -pair[1])
    rows = [
        (producer, reader, tokens, account.agents[reader].share(tokens))
        for (producer, reader), tokens in pairs[:MOST_PAIRS]
    ]
    columns = [
        ("text of", [producer for producer, _, _, _ in rows]),
        ("in prompts of", [reader for _, reader, _, _ in rows]),
        ("tokens", [f"{tokens:,}" for _, _, tokens, _ in rows]),
        ("of these\nprompts", [percent(share) for _, _, _, share in rows]),
    ]
    table = column_table(columns, left=("text of", "in prompts of"))
    others = pairs[MOST_PAIRS:]
    if not others:
        return table
    return Group(table, f"and {len(others)} more pairs with {sum(tokens for _, tokens in others):,} tokens")


def verdict(account: Account) -> Iterator[str]:
    """Yield what is saved, what more could be, and what is left."""
    total = account.total

    def share(tokens: int) -> str:
        return f"{tokens:,} tokens ({percent(total.share(tokens))})"

    yield f"An exact prefix cache saves {share(total.exact_prefix)} of the prompts."
    where = "of any conversation" if account.across else "of the same conversation"
    yield f"Another {share(total.elsewhere)} stood before in another context {where}."
    placeholders = total.whole_answers + total.whole_inputs
    if not account.only_blocks:
        yield f"KVCOMM's placeholders could take {share(placeholders)}, the whole answers and inputs."
    yield f"The other {share(total.new)} are new and must be computed."


def conditions(account: Account) -> Iterator[str]:
    """Yield what the numbers rest on."""
    if account.only_blocks:
        yield f"tokens: the log's own blocks of {account.block}; who produced them is not in the log"
        yield (
            "elsewhere: blocks seen before behind other blocks; ids that are chained with all blocks before them, as "
            "Mooncake's are, never show any"
        )
    else:
        hint = "; --tokenizer FILE counts those of a model" if account.tokens == ESTIMATE else ""
        yield f"tokens: {account.tokens}{hint}; one more per message for its markup"
        where = "any conversation" if account.across else "the same conversation"
        yield (
            f"elsewhere: stretches of {account.shortest} tokens or more that stood in an earlier prompt or answer of "
            f"{where}, each counted once, and only behind the exact prefix"
        )
    size = "" if account.only_blocks else f", in blocks of {account.block} tokens"
    full = "; it was full and dropped the oldest, so it was not infinite" if account.cache_was_full else ""
    yield f"exact prefix: an infinite cache, shared by all agents and conversations{size}{full}"
    total = account.total
    if account.unnamed:
        yield f"{_counted(account.unnamed, 'call')} without a conversation's name, taken as one conversation"
    if account.unanswered and not account.only_blocks:
        yield f"{_counted(account.unanswered, 'call')} without an answer: what later prompts take from it is not known"
    if account.out_of_time:
        yield (
            f"{_counted(account.out_of_time, 'call')} behind a later one of the conversation, by the log's times; "
            f"--by-time sorts them"
        )
    if account.left_out:
        yield f"{_counted(account.left_out, 'part')} of prompts that are no text, left out"
    if account.forgotten:
        yield f"memory: earlier text that might have counted was forgotten {_counted(account.forgotten, 'time')}"
    if not total.prompt:
        yield "the prompts are empty"


def _bullet(sentence: str) -> Text:
    return Text(f"- {sentence}")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

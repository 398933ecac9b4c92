"""The counting: from the calls of a log, one after the other, to its account, in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from analysis.potential.account import Account, Tally
from analysis.potential.prefix_cache import Continuations, PrefixCache, RecentNumbers
from harness.traces.call import BlockCall, Call
from harness.traces.earlier_text import EarlierText, Found, Piece, Run
from harness.traces.hashing import prefix_hashes
from harness.traces.tokens import ESTIMATE, Tokenize, Tokens, estimated, remembering

MOST_TOKENS = 8_000_000
"""Maximum number of tokens of earlier text that are kept, at some 20 bytes each. Beyond them, the conversations that
were left longest are forgotten."""

MOST_NAMES = 100
"""Maximum number of agents that are told apart."""


def account_of(
    calls: Iterable[Call | BlockCall],
    *,
    tokenize: Tokenize = estimated,
    counted: str = ESTIMATE,
    block: int = 16,
    shortest: int = 32,
    across: bool = False,
) -> Account:
    """Count the calls of a log, in order. ``counted`` says how ``tokenize`` counts."""
    account = Account(block, shortest, across, counted)
    texts, blocks = _Texts(account, remembering(tokenize)), _Blocks(account)
    latest: dict[int, float] = {}
    for call in calls:
        conversation = hash(call.conversation)
        before = latest.setdefault(conversation, float("-inf"))
        account.unnamed += call.conversation is None
        if call.time is not None:
            account.out_of_time += call.time < before
            latest[conversation] = max(before, call.time)
        reader = call.agent if call.agent in account.agents or len(account.agents) < MOST_NAMES else "other agents"
        tallies = (account.total, account.agents.setdefault(reader, Tally()))
        for tally in tallies:
            tally.calls += 1
        if isinstance(call, Call):
            texts.take(call, reader, tallies)
        else:
            blocks.take(call, tallies)
    account.conversations = len(latest)
    account.cache_was_full = texts.cache.was_full or blocks.cache.was_full
    return account


class _Texts:
    """The prefix cache and the earlier texts of each conversation."""

    def __init__(self, account: Account, tokenize: Tokenize) -> None:
        self._account, self._tokenize = account, tokenize
        self.cache = PrefixCache(account.block)
        self._earlier: OrderedDict[str, EarlierText] = OrderedDict()
        """By conversation, the one used last at the end."""
        self._everywhere = EarlierText(account.shortest)
        """All texts; used only with ``across``."""
        self._kept = 0
        self._left: set[int] = set()
        """Hashes of the names of conversations that were forgotten."""
        self._answered = Continuations()

    def take(self, call: Call, reader: str, tallies: Sequence[Tally]) -> None:
        """Count one call."""
        account, earlier = self._account, self._earlier_text(call.conversation)
        before = earlier.tokens
        texts = [(message.role, [self._tokenize(part) for part in message.parts]) for message in call.messages]
        arrays = [array for role, parts in texts for array in (_markup(role), *parts)]
        prompt = np.concatenate([*arrays, _markup("assistant")])
        prefixes = prefix_hashes(prompt)
        cached = self.cache.longest(prefixes)
        is_text = [role for role, _ in texts] == ["text"]
        if is_text:
            cached = max(cached, self._answered.longest(prefixes) // account.block * account.block)
        for tally in tallies:
            tally.prompt += len(prompt)
            tally.exact_prefix += cached

        new: list[tuple[Found, Piece]] = []
        position = 0
        for role, parts in texts:
            position += 1
            for tokens in parts:
                found = earlier.find(tokens)
                self._count_runs(found.runs, cached - position, reader, tallies)
                if account.across:
                    self._count_runs(self._find_elsewhere(found), cached - position, reader, tallies)
                new.append((found, Piece(len(tokens), f"input: {role}", is_answer=False)))
                position += len(tokens)
        account.left_out += call.left_out
        if call.answer is None:
            account.unanswered += 1
            self.cache.add(prefixes)
        else:
            answer = self._tokenize(call.answer)
            thought = self._tokenize(call.reasoning)
            self.cache.add(prefix_hashes(np.concatenate([prompt, thought, answer])))
            if is_text:
                self._answered.add(prefixes, answer)
            new.append((Found(answer, prefix_hashes(answer), ()), Piece(len(answer), reader, is_answer=True)))
            for tally in tallies:
                tally.output += len(answer)
        for found, piece in new:
            earlier.add(found, piece)
            if account.across:
                self._everywhere.add(found, piece)
        self._kept += earlier.tokens - before
        self._forget()

    def _count_runs(self, runs: Sequence[Run], cached: int, reader: str, tallies: Sequence[Tally]) -> None:
        """Count the stretches of a text whose first ``cached`` tokens lie in the exact prefix. The rest of a stretch
        counts if it is long enough."""
        for stretch in _stretches(runs):
            if stretch[-1].stop - max(stretch[0].start, cached) < self._account.shortest:
                continue
            for run in stretch:
                tokens = run.stop - max(run.start, cached)
                if tokens <= 0:
                    continue
                for tally in tallies:
                    if not run.is_whole:
                        tally.fragments += tokens
                    elif run.piece.is_answer:
                        tally.whole_answers += tokens
                    else:
                        tally.whole_inputs += tokens
                pair = run.piece.producer, reader
                self._account.pairs[pair] = self._account.pairs.get(pair, 0) + tokens

    def _find_elsewhere(self, found: Found) -> list[Run]:
        """Return the stretches of other conversations in what is new in a text in its own conversation."""
        runs = []
        gaps = zip(
            [0, *(run.stop for run in found.runs)], [*(run.start for run in found.runs), len(found.tokens)], strict=True
        )
        for start, stop in gaps:
            for run in self._everywhere.find(found.tokens[start:stop]).runs:
                runs.append(replace(run, start=run.start + start, stop=run.stop + start))
        return runs

    def _earlier_text(self, conversation: str | None) -> EarlierText:
        name = conversation or ""
        if name not in self._earlier:
            self._account.forgotten += hash(name) in self._left
            self._earlier[name] = EarlierText(self._account.shortest)
        self._earlier.move_to_end(name)
        return self._earlier[name]

    def _forget(self) -> None:
        """Forget what was left longest, until the rest fits."""
        if self._everywhere.tokens > MOST_TOKENS:
            self._account.forgotten += 1
            self._everywhere.forget()
        while self._kept > MOST_TOKENS:
            if len(self._earlier) > 1:
                name, longest_left = self._earlier.popitem(last=False)
                self._left.add(hash(name))
                self._kept -= longest_left.tokens
            else:
                (only,) = self._earlier.values()
                self._account.forgotten += 1
                only.forget()
                self._kept = only.tokens


class _Blocks:
    """The blocks so far, of logs that hold hashes of them. Who produced a block is unknown, and an answer's blocks are
    unknown until a later prompt holds them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.cache = PrefixCache(1)
        self._seen = RecentNumbers()

    def take(self, call: BlockCall, tallies: Sequence[Tally]) -> None:
        """Count one call."""
        self._account.only_blocks = True
        self._account.block = size = call.block_tokens
        prefixes = prefix_hashes(np.array(call.block_ids, np.int64).view(np.uint64))
        cached = self.cache.longest(prefixes)
        last = len(call.block_ids) - 1
        sizes = [size] * last + [call.prompt_tokens - last * size]
        elsewhere = sum(
            tokens
            for block, tokens in zip(call.block_ids[cached:last], sizes[cached:last], strict=True)
            if block in self._seen
        )
        for tally in tallies:
            tally.prompt += call.prompt_tokens
            tally.exact_prefix += sum(sizes[:cached])
            tally.fragments += elsewhere
        self._account.unanswered += 1
        self.cache.add(prefixes)
        self._seen.update(call.block_ids)


def _stretches(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs, with adjacent ones together."""
    stretches: list[list[Run]] = []
    for run in runs:
        if stretches and stretches[-1][-1].stop == run.start:
            stretches[-1].append(run)
        else:
            stretches.append([run])
    return stretches


def _markup(role: str) -> Tokens:
    """Return the token that stands for the markup of a role."""
    return np.array([hash(("role", role))], np.int64).view(np.uint64)

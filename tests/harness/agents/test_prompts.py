"""Roles and their rendered prompts."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import date
from doctest import DocTestParser, DocTestRunner
from typing import Any

import pytest
from chat_tokenizers import MARKUPS, chat_tokenizer
from golden_prompts import golden_file, golden_text, joined

from harness.agents import ChatTokenizer, Role, built_in_teams, chat_header, render_segments, roles_for
from harness.agents.roles import Ending, parse_role
from kvcomm_core.models.loading import load_model
from kvcomm_core.template import Template

TOKENIZER = chat_tokenizer("smollm2")
TEAMS = built_in_teams()
DECIDERS = ("FinalRefer", "Judge")


@pytest.mark.parametrize("markup", MARKUPS)
@pytest.mark.parametrize("workload", TEAMS)
def test_prompts_read_as_recorded(workload: str, markup: str) -> None:
    """Golden files: catches any change of what an agent is told, in the markup of each model. ``golden_prompts``
    says how to record a wanted one."""
    recorded = golden_file(workload, markup).read_text(encoding="utf-8")
    assert golden_text(workload, chat_tokenizer(markup)) == recorded


# What ``roles_for`` gives, by the number of agents from 1 to 6.
DIGESTS = {
    "recall": ("6723b80b5556", "3eda1a736de6", "acaa7e0313d0", "2b626b88e65f", "e43b003b03af", "7a7a645ea873"),
    "gsm8k": ("7e5069ed409d", "c6b44cf63271", "5102c7ab8052", "819b059213a4", "ab5bd0d3a3df", "f8b8f8ec6b38"),
    "math500": ("f762b1318b2a", "2462f70e7f4c", "28852308e045", "2cce64033076", "3731960c3ed3", "c6a71f24f3a1"),
    "aime": ("6014c0684817", "2900ca8dfa39", "4e910f470937", "c6a48495dd0e", "c81b024d38b6", "25789580c3df"),
    "mmlu": ("fcd3e13c3759", "7849aed3250a", "93954a1bfcc2", "8153c4f43b7a", "8db5de940473", "b4623469b700"),
    "judge": ("8252e2b7cab0", "ef824d906bc9", "156f3bb2eeef", "0c68f0008744", "bbb86b71e390", "0624716c6fb0"),
    "humaneval": ("a8476f9447fb", "d2b1881802f3", "f3b92769ae10", "a69077f20911", "0afbf97e508f", "e3ca1908fb6a"),
}


@pytest.mark.parametrize("workload", TEAMS)
def test_built_in_teams_are_as_recorded(workload: str) -> None:
    """Golden: catches a role, an order or a prompt that changes unnoticed. A wanted change makes new trials
    (``harness.agents.editions``), and the results that ship for its workload have to be made anew."""

    def digest(roles: tuple[Role, ...]) -> str:
        text = json.dumps([[role.name, role.system, role.user, role.tool] for role in roles])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    assert tuple(digest(roles_for(workload, agents)) for agents in range(1, 7)) == DIGESTS[workload]
    assert all(role.max_new_tokens is None for role in TEAMS[workload].roles if role.name != "Judge")


@pytest.fixture(scope="module")
def embedded_tokenizer() -> ChatTokenizer:
    return load_model("embedded").tokenizer  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("workload", TEAMS)
def test_the_embedded_model_is_told_what_is_recorded(workload: str, embedded_tokenizer: ChatTokenizer) -> None:
    """Catches a made-up markup that is not the one of the model it stands for."""
    assert golden_text(workload, embedded_tokenizer) == golden_file(workload, "smollm2").read_text(encoding="utf-8")


@pytest.mark.parametrize("workload", TEAMS)
@pytest.mark.parametrize("agents", [2, 3, 5, 13])
def test_the_last_decides_and_workers_start_over(workload: str, agents: int) -> None:
    """Catches a decision agent that is missing or comes early, and a crash with more agents than roles."""
    names = [role.name for role in roles_for(workload, agents)]
    workers = [role.name for role in TEAMS[workload].roles[:-1]]
    assert len(names) == agents
    assert names[-1] in DECIDERS
    assert not {*DECIDERS} & {*names[:-1]}
    assert names[:-1] == [workers[index % len(workers)] for index in range(agents - 1)]


@pytest.mark.parametrize("workload", TEAMS)
def test_a_single_agent_is_one_that_solves(workload: str) -> None:
    """Catches a baseline of one agent that is told to weigh the answers of others, of whom there are none."""
    (role,) = roles_for(workload, 1)
    assert role in TEAMS[workload].roles[:-1]
    assert [value for kind, value in render_segments(role, [], TOKENIZER) if kind == "hole"] == ["user_question"]


@pytest.mark.parametrize("workload", TEAMS)
def test_every_role_asks_for_the_answer_that_is_graded(workload: str) -> None:
    """Catches a role without the final line, a mark that was not filled in, and the form of another workload."""
    endings = {
        "recall": "Answer in one sentence.",
        "gsm8k": "End with a line of the form: The answer is N",
        "aime": "End with a line of the form: The answer is N, where N is an integer from 0 to 999",
        "math500": r"End with a line of the form: The answer is \boxed{N}",
        "mmlu": "End with a line of the form: The answer is X, where X is one of the letters A, B, C and D",
        "judge": "",  # candidates' answers are given
        "humaneval": " with the complete function, its imports included, in one block fenced by ```python and ```",
    }
    results = {
        "gsm8k": r"\d+",
        "aime": r"\d{1,3}",
        "math500": r"\\boxed\{\d+\}",
        "mmlu": "[ABCD]",
    }
    for role in TEAMS[workload].roles:
        assert role.user.endswith(endings[workload])
        assert not re.search(r"\{answer|\{final_line", role.system + role.user)
        stated = re.findall(r"^The answer is (.+)$", role.system, re.MULTILINE)
        assert bool(stated) == (workload in results), role.name
        assert all(re.fullmatch(results[workload], result) for result in stated)
        # The example ends as the answer has to.
        last = role.system.splitlines()[-1]
        assert workload in ("recall", "judge") or last == (
            "```" if workload == "humaneval" else f"The answer is {stated[-1]}"
        )


def test_the_judge_is_asked_for_a_letter_and_shown_each() -> None:
    """Catches examples that leave a letter out, after which a judge has a reason never to pick it, and a prompt that
    does not end where the letter belongs, after which small models begin with other words."""
    judge = TEAMS["judge"].roles[-1]
    assert judge.user.endswith("Answer with the letter alone.\nThe right candidate:")
    letters = re.findall(r"^The right candidate:\n([A-D])$", judge.system, re.MULTILINE)
    assert sorted(letters) == ["A", "B", "C", "D"]


def test_tools_are_those_of_the_paper() -> None:
    """Catches code that is not run, and entities of one agent looked up for another."""
    tools = {workload: {role.name: role.tool for role in team.roles if role.tool} for workload, team in TEAMS.items()}
    python = {"Programming Expert": "python"}
    assert tools == {
        "recall": {},
        "judge": {},
        "gsm8k": python,
        "math500": python,
        "aime": python,
        "mmlu": {"Knowledgeable Expert": "wiki"},
        "humaneval": {"Programming Expert": "doctest", "Test Analyst": "doctest", "Bug Fixer": "doctest"},
    }


def run_blocks(role: Role) -> list[dict[str, Any]]:
    """The names that each block of code of an example defines."""
    namespaces: list[dict[str, Any]] = []
    for code in re.findall(r"```python\n(.+?)\n```", role.system, re.DOTALL):
        namespaces.append({})
        exec(code, namespaces[-1])
    return namespaces


def test_the_examples_of_solve_return_the_answer_they_state() -> None:
    """Catches an example that teaches a wrong result."""
    expert = roles_for("gsm8k", 5)[2]
    stated = re.findall(r"^The answer is (.+)$", expert.system, re.MULTILINE)
    assert [str(names["solve"]()) for names in run_blocks(expert)] == stated


def test_the_examples_of_functions_do_as_their_docstring_says() -> None:
    """Catches a final version that fails the example it is written for."""
    for role in roles_for("humaneval", 6):
        described, final = run_blocks(role)[0], run_blocks(role)[-1]
        (function,) = [value for name, value in described.items() if name != "__builtins__"]
        example = DocTestParser().get_doctest(function.__doc__, final, role.name, None, 0)
        assert example.examples, role.name
        assert DocTestRunner(verbose=False).run(example).failed == 0, role.name


def test_the_faulty_versions_of_the_examples_fail_as_is_said_of_them() -> None:
    """Catches an example that teaches to repair what is not broken."""
    analyst, fixer = roles_for("humaneval", 6)[3:5]
    mean_wait = run_blocks(analyst)[1]["mean_wait"]
    assert mean_wait([1.0, 2.0, 5.0]) == 2.0
    for values, error in (([3.0], ZeroDivisionError), ([], IndexError)):
        with pytest.raises(error):
            mean_wait(values)
        assert run_blocks(analyst)[-1]["mean_wait"](values) == 0.0
    assert run_blocks(fixer)[1]["last_words"]("over and out", 0) == "over and out"


@pytest.mark.parametrize("markup", MARKUPS)
def test_tokens_of_a_prompt_in_pieces_are_those_of_the_whole(markup: str) -> None:
    """Catches a mark of the template spelt in bytes, a second beginning-of-text token, and a piece left out. With
    bytes as tokens the two must be equal."""
    tokenizer = chat_tokenizer(markup)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    segments = render_segments(roles_for("gsm8k", 2)[1], [(1, "One")], tokenizer)
    values = {"user_question": "How many?", "agent_1_current": "Many. \u00e9"}
    whole = "".join(values[value] if kind == "hole" else value for kind, value in segments)
    prompt = Template.from_pieces(segments, encode).fill({name: tuple(encode(value)) for name, value in values.items()})
    assert list(prompt.token_ids) == encode(whole)
    assert tokenizer.decode(prompt.token_ids) == whole
    marks = {tokenizer.convert_tokens_to_ids(mark) for mark in re.findall(r"<\|\w+\|>", whole)}
    assert marks <= set(tokenizer.all_special_ids)
    beginnings = {"llama3.1": 1, "qwen2.5": 0, "smollm2": 3}  # SmolLM2's is the mark that begins a turn
    assert prompt.token_ids.count(tokenizer.bos_token_id) == beginnings[markup]


@pytest.mark.parametrize(
    "template",
    [
        # As in Llama 3.2: the date of today unless the caller gives one.
        "{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today Date: {{ date_string }}\n{% for m in messages %}{{ m.content }}{% endfor %}",
        # As in some of Mistral's: only in the system turn that stands in for a missing one.
        "{% if messages[0].role != 'system' %}Today Date: {{ strftime_now('%d %b %Y') }}\n{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
)
def test_prompts_do_not_depend_on_the_day(template: str) -> None:
    """Catches a trial that would give other tokens tomorrow; its identity would be the same."""
    tokenizer = chat_tokenizer("llama3.1", template)
    conversation = [{"role": "user", "content": "Hello"}]
    today = date.today().strftime("%d %b %Y")
    left_alone = tokenizer.apply_chat_template(conversation, tokenize=False)
    assert f"Today Date: {today}" in left_alone
    assert chat_header(tokenizer) == "Today Date: 26 Jul 2024\n"
    prompt = joined(render_segments(roles_for("recall", 2)[0], [], tokenizer))
    assert today not in prompt
    assert ("Today Date: 26 Jul 2024" in prompt) == ("date_string" in template)


def test_segments_alternate_and_holes_stand_on_their_own_lines() -> None:
    """Catches a hole glued to a word, whose tokens would differ from those of the whole prompt."""
    for workload in TEAMS:
        for role in roles_for(workload, 5):
            segments = render_segments(role, [(1, "First"), (2, "Second")], TOKENIZER)
            kinds = [kind for kind, _ in segments]
            assert kinds == ["text", "hole"] * (len(segments) // 2) + ["text"]
            assert [value for kind, value in segments if kind == "hole"] == [
                "user_question",
                "agent_1_current",
                "agent_2_current",
            ]
            texts = [value for kind, value in segments if kind == "text"]
            assert all(text.endswith("\n") for text in texts)
            assert all(text.startswith("\n") for text in texts[1:])


def test_order_of_holes_follows_the_prompt_not_the_ids() -> None:
    """Catches holes sorted by name or number: the pieces of text would go to the wrong holes."""
    role = Role("R", "S", "{upstream}\n\nthen\n{user_question}\nend")
    segments = render_segments(role, [(10, "Ten"), (2, "Two")], TOKENIZER)
    assert [value for kind, value in segments if kind == "hole"] == [
        "agent_10_current",
        "agent_2_current",
        "user_question",
    ]
    assert joined(segments) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nTen (agent 10):\n{agent_10_current}\n\n"
        "Two (agent 2):\n{agent_2_current}\n\nthen\n{user_question}\nend<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("workload", TEAMS)
def test_later_rounds_read_the_last_one_first(workload: str) -> None:
    """Catches answers of the last round passed off as those of this one, and the two in another order."""
    worker, decider = roles_for(workload, 2)
    team = [(1, worker.name), (2, decider.name)]
    segments = render_segments(decider, team[:1], TOKENIZER, remembered=team)
    assert [value for kind, value in segments if kind == "hole"] == [
        "user_question",
        "agent_1_history_1",
        "agent_2_history_1",
        "agent_1_current",
    ]
    prompt = joined(segments)
    for agent_id, name in team:
        assert f"In the last round, {name} (agent {agent_id}) answered:\n{{agent_{agent_id}_history_1}}\n" in prompt
    assert f"\n{worker.name} (agent 1):\n{{agent_1_current}}\n" in prompt
    assert [kind for kind, _ in segments] == ["text", "hole"] * (len(segments) // 2) + ["text"]


def test_a_tool_result_follows_the_answer_of_the_agent_that_used_it() -> None:
    """Catches a result shown under another agent's name, and a hole for an agent that has no tool or is not read."""
    role = Role("R", "S", "{user_question}\n\n{upstream}\n\nend")
    segments = render_segments(role, [(1, "One"), (2, "Two")], TOKENIZER, with_tool={2, 3})
    assert joined(segments) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{user_question}\n\nOne (agent 1):\n{agent_1_current}\n\n"
        "Two (agent 2):\n{agent_2_current}\n\nThe tool of Two (agent 2) returned:\n{condition_2_current}\n\n"
        "end<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",  # drops the user message
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{{ messages[1].content | reverse }}",
    ],
)
def test_a_chat_template_that_loses_holes_is_refused(template: str) -> None:
    """Catches prompts without a question, silently."""
    role = Role("R", "S", "{user_question}\n{upstream}\nend")
    with pytest.raises(ValueError, match="does not keep the holes of R: user_question, agent_1_current"):
        render_segments(role, [(1, "One")], chat_tokenizer("smollm2", template))


def test_chat_header_is_what_stands_before_a_plain_user_message() -> None:
    """Catches a header with another system message than the model's template puts there by default."""
    turn = "<|im_start|>{{ messages[0].role }}\n{{ messages[0].content }}<|im_end|>\n"
    assert chat_header(chat_tokenizer("smollm2", turn)) == "<|im_start|>user\n"
    assert chat_header(chat_tokenizer("smollm2", "<s>Be nice.</s>" + turn)) == "<s>Be nice.</s><|im_start|>user\n"
    with pytest.raises(ValueError, match="drops the content"):
        chat_header(chat_tokenizer("smollm2", "nothing"))


def test_braces_of_formulas_and_code_are_text() -> None:
    """Catches an answer's form or an example that is taken for a hole, or lost."""
    role = Role(
        "R", r"Like \boxed{x}.", "{user_question}\n\n{upstream}\n\nAs in \\frac{a}{b}, x^{n} or f{x}: \\boxed{N}"
    )
    segments = render_segments(role, [(1, "One")], TOKENIZER)
    assert [value for kind, value in segments if kind == "hole"] == ["user_question", "agent_1_current"]
    assert r"Like \boxed{x}." in segments[0][1]
    assert r"As in \frac{a}{b}, x^{n} or f{x}: \boxed{N}" in segments[-1][1]


GOOD = "[system]\nS\n[user]\n{user_question}\n{upstream}\nend\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("end", "{answer}"),
            r"role\.txt: unknown hole \{answer\}; allowed: \{user_question\}",
        ),
        (lambda text: text.replace("{upstream}", "{agent_1_current}"), r"unknown hole \{agent_1_current\}"),
        (lambda text: text.replace("S\n", "{user_question}\n", 1), r"hole \{user_question\} in the system part"),
        (
            lambda text: text.replace("{upstream}\n", "{upstream}\n{upstream}\n"),
            r"hole \{upstream\} must stand exactly",
        ),
        (lambda text: text + "{user_question}\n", r"hole \{user_question\} must stand exactly once"),
        (lambda text: text.replace("{user_question}", "Q: {user_question}"), r"must stand exactly once, alone"),
        (lambda text: text.replace("end", "({upstream})"), r"hole \{upstream\} must stand exactly once"),
        (lambda text: text.replace("end", "It ends on {answer 3}"), r"\{answer ...\} must stand alone on its line"),
        (lambda text: "[tool]\nhammer\n" + text, r"tool is 'hammer'; allowed: python, doctest, wiki"),
        (lambda text: "[tool]\n" + text, r"must be a \[system\] part"),
        (lambda text: text.replace("[user]\n", ""), r"must be a \[system\] part followed by a \[user\] part"),
        (lambda text: "", r"must be a \[system\] part"),
    ],
)
def test_malformed_role_files_are_named(change: Callable[[str], str], message: str) -> None:
    """Catches a hole that would be sent to the model as literal text."""
    assert parse_role("R", GOOD, "role.txt", Ending()) == Role("R", "S", "{user_question}\n{upstream}\nend")
    assert parse_role("R", "[tool]\nwiki\n" + GOOD, "role.txt", Ending()).tool == "wiki"
    with pytest.raises(ValueError, match=message) as caught:
        parse_role("R", change(GOOD), "role.txt", Ending())
    assert str(caught.value).startswith("role.txt")


def test_bad_input_names_value_and_what_is_allowed() -> None:
    """Catches a KeyError for a workload without roles."""
    with pytest.raises(
        ValueError, match="workload is 'chess'; with roles: humaneval, judge, aime, gsm8k, math500, mmlu, recall"
    ):
        roles_for("chess", 3)
    with pytest.raises(ValueError, match="agents is 0; allowed: 1 or more"):
        roles_for("recall", 0)

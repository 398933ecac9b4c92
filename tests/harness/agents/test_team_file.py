"""Team files: what they mean, and one line for each kind of mistake."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chat_tokenizers import chat_tokenizer
from golden_prompts import joined

from harness.agents import Role, Team, TeamError, files_of, read_team, render_segments
from harness.topology import Topology

PROMPT = "[system]\nYou are {name}.\n[user]\n{{user_question}}\n\n{{upstream}}\n\nBe brief.\n"
NAMES = ("Planner", "Researcher", "Critic", "Writer")

TEAM = """
name: kitchen
roles:
  - {name: Writer, prompt: writer.txt, max_new_tokens: 24}
  - {name: Researcher, prompt: researcher.txt, tool: python}
  - {name: Planner, prompt: planner.txt}
  - {name: Critic, prompt: critic.txt}
reads:
  Researcher: [Planner]
  Critic: [Researcher]
  Writer: [Planner, Critic]
decider: Writer
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """``write(text)``: a team file of that text, beside the prompts of its roles."""

    def write(text: str) -> Path:
        for name in NAMES:
            (tmp_path / f"{name.lower()}.txt").write_text(PROMPT.format(name=name))
        path = tmp_path / "kitchen.yaml"
        path.write_text(text)
        return path

    return write


def names(team: Team) -> list[str]:
    return [role.name for role in team.roles]


def test_agents_answer_after_those_that_they_read(write: Callable[[str], Path]) -> None:
    """Catches the order of the file taken for that of execution, edges turned around, and lengths or tools of another
    role."""
    team = read_team(write(TEAM))
    assert names(team) == ["Planner", "Researcher", "Critic", "Writer"]
    assert team.graph == Topology(((), (1,), (2,), (1, 3)), ((1, 2, 4), (2, 3), (3, 4), (4,)), 4)
    assert [(role.tool, role.max_new_tokens) for role in team.roles] == [
        (None, None),
        ("python", None),
        (None, None),
        (None, 24),
    ]
    assert (team.name, team.agents) == ("kitchen", 4)
    assert team.roles_of(4) == team.roles
    with pytest.raises(ValueError, match="agents is 3; allowed: 4, the roles of team kitchen"):
        team.roles_of(3)


def test_roles_that_may_answer_at_any_time_keep_the_order_of_the_file(write: Callable[[str], Path]) -> None:
    """Catches an order that depends on hashing or on names, and a decider that answers before it must."""
    roles = "".join(f"- {{name: {name}, prompt: {name.lower()}.txt}}\n" for name in ("Writer", "Planner", "Critic"))
    team = read_team(write(f"roles:\n{roles}reads: {{}}\ndecider: Writer\n"))
    assert names(team) == ["Planner", "Critic", "Writer"]
    first = read_team(write(f"roles:\n{roles}reads: {{Critic: [Writer]}}\ndecider: Writer\n"))
    assert names(first) == ["Planner", "Writer", "Critic"]
    assert first.graph is not None
    assert first.graph.decision_agent == 2, "its answer is graded, wherever it stands"


def test_what_is_remembered(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Catches ``remembers`` that adds to the default instead of replacing it, and answers of the last round for a
    prompt that has no place for them."""
    path = write(f"{TEAM}remembers: {{Planner: [Critic], Writer: []}}\n")
    (tmp_path / "critic.txt").write_text(PROMPT.format(name="Critic").replace("{upstream}", "{agent:Researcher}"))
    team = read_team(path)
    assert team.graph is not None
    assert team.graph.remembered == ((3,), (2, 3), (), ())


def test_without_edges_the_roles_are_taken_in_order(write: Callable[[str], Path]) -> None:
    """Catches a decider that is not last, roles that run out, and a single agent that weighs the answers of nobody."""
    text = TEAM.partition("reads:")[0]
    team = read_team(write(text + "decider: Planner\nalone: Critic\n"))
    assert (team.graph, team.agents) == (None, None)
    assert [role.name for role in team.roles_of(6)] == [
        "Writer",
        "Researcher",
        "Critic",
        "Writer",
        "Researcher",
        "Planner",
    ]
    assert [role.name for role in team.roles_of(1)] == ["Critic"]
    assert [role.name for role in read_team(write(text)).roles_of(1)] == ["Writer"], "the first one"
    with pytest.raises(ValueError, match="agents is 0; allowed: 1 or more"):
        team.roles_of(0)


def test_the_digest_is_of_the_content(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Catches an edited prompt under the identity of the old one, and a renamed file or team under a new one."""
    path = write(TEAM)
    team = read_team(path)
    assert team.digest == read_team(path.rename(tmp_path / "other.yaml")).digest
    assert replace(team, name="other").digest == team.digest
    assert team.label == f"kitchen@{team.digest[:6]}"
    assert team.graph is not None
    for changed in (
        replace(team, roles=(replace(team.roles[0], user="{user_question}\n{upstream}"), *team.roles[1:])),
        replace(team, roles=(*team.roles[:-1], replace(team.roles[-1], max_new_tokens=25))),
        replace(team, graph=replace(team.graph, upstream=((), (1,), (2,), (3,)))),
        replace(team, graph=replace(team.graph, decider=3)),
    ):
        assert changed.digest != team.digest


def test_prompts_within_the_file(write: Callable[[str], Path]) -> None:
    """Catches inline prompts whose final line is not filled in."""
    text = """
answer: It is N
roles:
  - name: Planner
    tool: wiki
    system: |
      You plan.
      {answer 3}
    user: "{user_question}\\n\\n{final_line}"
reads: {}
"""
    team = read_team(write(text))
    role = Role("Planner", "You plan.\nIt is 3", "{user_question}\n\nEnd with a line of the form: It is N", "wiki")
    assert team == Team(name="kitchen", roles=(role,), graph=Topology(((),), ((),), 1))
    assert files_of(write(text)) == [write(text)]
    assert [path.name for path in files_of(write(TEAM))][1:] == [
        "writer.txt",
        "researcher.txt",
        "planner.txt",
        "critic.txt",
    ]


def test_an_answer_has_the_place_that_the_prompt_gives_it() -> None:
    """Catches an answer that stands twice, one under another role's mark, and a tool's result that is lost."""
    role = Role("R", "S", "{user_question}\n\nThe plan:\n{agent:Two}\n\n{upstream}\n\nend")
    upstream = [(1, "One"), (2, "Two")]
    rendered = joined(render_segments(role, upstream, chat_tokenizer("smollm2"), with_tool={2}))
    assert rendered == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{user_question}\n\nThe plan:\n{agent_2_current}\n\n"
        "The tool of Two (agent 2) returned:\n{condition_2_current}\n\nOne (agent 1):\n{agent_1_current}\n\n"
        "end<|im_end|>\n<|im_start|>assistant\n"
    )
    alone = replace(role, user="{user_question}\n\n{agent:One}\n\n{agent:Two}")
    holes = [value for kind, value in render_segments(alone, upstream, chat_tokenizer("smollm2")) if kind == "hole"]
    assert holes == ["user_question", "agent_1_current", "agent_2_current"]


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "a cycle": (
        lambda text: text.replace("Researcher: [Planner]", "Researcher: [Critic]"),
        "reads has a cycle: Researcher reads Critic reads Researcher; allowed: no cycles within a round",
    ),
    "itself": (lambda text: text.replace("[Researcher]", "[Critic]"), "reads has a cycle: Critic reads Critic"),
    "an unknown role": (
        lambda text: text.replace("[Researcher]", "[Reseacher]"),
        "reads.Critic is 'Reseacher'; allowed: Writer, Researcher, Planner, Critic",
    ),
    "an unknown reader": (
        lambda text: text.replace("Critic: [", "Critik: ["),
        "a key of reads is 'Critik'; allowed: Writer, Researcher, Planner, Critic",
    ),
    "an unknown decider": (lambda text: text.replace("r: Writer", "r: Boss"), "decider is 'Boss'; allowed: Writer, "),
    "a role twice in a list": (
        lambda text: text.replace("[Planner, Critic]", "[Critic, Critic]"),
        "reads.Writer is ['Critic', 'Critic']; allowed: each role once",
    ),
    "a role twice": (
        lambda text: text.replace("name: Critic", "name: Planner"),
        "roles[3].name is 'Planner'; allowed: printable text without braces, different for each role",
    ),
    "no list of readers": (
        lambda text: text.replace("[Researcher]", "Researcher"),
        "reads.Critic is 'Researcher'; allowed",
    ),
    "no prompt file": (
        lambda text: text.replace("planner.txt", "plan.txt"),
        "roles[2].prompt is 'plan.txt'; allowed: a text file beside kitchen.yaml",
    ),
    "no prompt": (lambda text: text.replace(", prompt: planner.txt", ""), "roles[2].system is None; allowed: text"),
    "two prompts": (
        lambda text: text.replace("prompt: planner.txt", "prompt: planner.txt, user: x"),
        "roles[2].user is 'x'; allowed: either prompt, or system and user",
    ),
    "an unknown tool": (
        lambda text: text.replace("tool: python", "tool: hammer"),
        "roles[1]: tool is 'hammer'; allowed: python, doctest, wiki",
    ),
    "no length": (
        lambda text: text.replace("max_new_tokens: 24", "max_new_tokens: many"),
        "roles[0].max_new_tokens is 'many'; allowed: a whole number, 1 or more",
    ),
    "length 0": (lambda text: text.replace("tokens: 24", "tokens: 0"), "roles[0].max_new_tokens is '0'; allowed"),
    "an unknown key": (
        lambda text: text.replace("reads:", "read:"),
        "'read' is no key of a team file; allowed: name, roles, reads",
    ),
    "an unknown key of a role": (lambda text: text.replace("tool:", "tools:"), "roles[1].'tools' is no key"),
    "no roles": (lambda text: "name: kitchen\n", "roles is None; allowed: a list of 1 to 1000 roles"),
    "roles by name": (lambda text: "roles: {Planner: planner.txt}\n", "roles is {'Planner': 'planner.txt'}; allowed"),
    "no mapping": (lambda text: "- a\n", "is ['a']; allowed: a mapping with roles"),
    "no YAML": (lambda text: "roles: [\n", "not YAML ("),
    "a key twice": (lambda text: text + "decider: Writer\n", "key 'decider' is given twice"),
    "an endless list": (lambda text: "roles: &a [*a]\n", "not YAML ("),
    "a deep list": (lambda text: "roles: " + "[" * 5000, "not YAML"),
    "code": (lambda text: "!!python/object/apply:os.system [echo]", "is ['echo']; allowed: a mapping with roles"),
    "one role for any topology": (
        lambda text: "roles: [{name: Planner, prompt: planner.txt}]\n",
        "roles is ['Planner']; allowed: two or more",
    ),
    "remembers alone": (
        lambda text: text.replace("reads:", "remembers:"),
        "remembers is {'Critic': ['Researcher'], 'Researcher': ['Planner'], ",
    ),
    "alone with edges": (lambda text: text + "alone: Planner\n", "alone is 'Planner'; allowed: nothing, with reads"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line(name: str, write: Callable[[str], Path]) -> None:
    """Catches a traceback, a message without the file, and a team that differs from what is written."""
    change, message = BAD[name]
    path = write(change(TEAM))
    with pytest.raises(TeamError) as refused:
        read_team(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("{upstream}\nend", "critic.txt: hole {user_question} must stand exactly once, alone on its line"),
        ("{user_question}\nend", "the prompt of Critic has no hole {upstream} for the answers that it reads"),
        (
            "{user_question}\n{agent:Planner}\n{upstream}",
            "Critic has the hole {agent:Planner}; allowed: a role that it",
        ),
        ("{user_question}\nsee {agent:Researcher}", "must stand once, alone on its line, as {agent:ROLE}"),
        (
            "{user_question}\n{Agent: Researcher}\n{upstream}",
            "'{Agent: Researcher}' must stand once, alone on its line",
        ),
        ("{user_question}\n{agent:Researcher}\n{agent:Researcher}", "must stand once, alone on its line"),
        ("{user_question}\n{agent_1_current}\n{upstream}", "critic.txt: unknown hole {agent_1_current}; allowed"),
    ],
)
def test_a_hole_that_is_missing_or_misplaced(
    user: str, message: str, write: Callable[[str], Path], tmp_path: Path
) -> None:
    """Catches a prompt that goes to the model without what it should read, or with a mark as its text."""
    path = write(TEAM)
    (tmp_path / "critic.txt").write_text(f"[system]\nYou are a critic.\n[user]\n{user}\n")
    with pytest.raises(TeamError) as refused:
        read_team(path)
    assert message in str(refused.value)


def test_named_holes_need_edges(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Catches a mark that no topology can fill."""
    path = write(TEAM.partition("reads:")[0])
    (tmp_path / "critic.txt").write_text("[system]\nS\n[user]\n{user_question}\n{agent:Planner}\n{upstream}\n")
    with pytest.raises(TeamError, match=r"Critic has the hole \{agent:Planner\}; allowed: \{upstream\} alone"):
        read_team(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Catches a traceback, and a pipe that is waited for."""
    with pytest.raises(TeamError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        read_team(tmp_path / "none.yaml")
    with pytest.raises(TeamError, match="cannot be read"):
        read_team(tmp_path)

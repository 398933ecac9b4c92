"""The prompt of a HumanEval task: Python source that ends within the requested function."""

import ast
import dis

from harness.tools.parsing import parsed


def open_function(prompt: str, entry_point: str) -> ast.FunctionDef | None:
    """Return the function that the prompt leaves open."""
    tree = parsed(f"{prompt.rstrip()}\n    pass\n")
    functions = [] if tree is None else [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return next((function for function in functions if function.name == entry_point), None)


def defines_check(test: str) -> bool:
    """Return whether the hidden tests of a task are Python that compiles and defines ``check`` at the top level."""
    try:
        code = compile(test, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        one.opname in ("STORE_NAME", "STORE_GLOBAL") and one.argval == "check" for one in dis.get_instructions(code)
    )


def preamble(prompt: str, entry_point: str) -> str:
    """Return the prompt's code before its function."""
    function = open_function(prompt, entry_point)
    return "" if function is None else "".join(f"{line}\n" for line in prompt.split("\n")[: function.lineno - 1])

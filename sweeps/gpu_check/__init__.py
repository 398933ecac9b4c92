"""``make gpu-check``: all that only a GPU can show, in one command of at most nine minutes.

It asks for torch and transformers as a GPU machine has them, and for no set-up: neither Ray nor MLflow nor pydantic.
The command (``__main__``) imports no torch. Every step is a process of its own (``child``) with its own time limit, and
writes each figure as soon as it is measured, so that a fault of CUDA, a hang or a limit costs what is left of one step,
and nothing else.

**It has not run on a GPU yet.** What the tests run is the same code on a CPU, with a tiny random model.
"""

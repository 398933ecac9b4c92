"""Tools for agents: a sandbox for the Python they write, the tests of HumanEval, and a Wikipedia lookup."""

"""Inside the sandbox: how a fresh process locks itself in before it runs the code it was given.

``main.py`` is the program that ``python_sandbox.py`` starts; the other files are a layer each. All of it is read anew
for every run, in 20 to 50 ms, so nothing here imports more than it must.
"""

"""Inside the sandbox: a fresh process locks itself in before it runs the code it was given.

``python_sandbox.py`` starts the program ``main.py``; each of the other files is one layer. Every run reads all of it
anew, in 20 to 50 ms, so nothing here imports more than it must.
"""

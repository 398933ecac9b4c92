"""Checks of what the engine and its users rely on in every method; any method can be put to them.

``running.run_checks`` runs them on small, randomly initialised models of every family that the engine serves, in
float32 and bfloat16. ``kvcomm check-method PATH`` prints what they find.
"""

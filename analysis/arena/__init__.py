"""The arena: all reuse methods of a results folder beside each other, at what they compute.

``rows.py`` measures each arm, ``separation.py`` tests which arms the data tell apart, and ``view.py`` makes the tables
of ``kvcomm show --arena``. The figure is ``analysis/figures/kl_computed.py``.
"""

"""Results as tables to go on with, and the notebook of ``kvcomm explore``."""

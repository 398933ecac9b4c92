"""The sandbox for model-written code: its launcher, and the jail that confines it."""

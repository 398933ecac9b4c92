"""The sandbox of code that a model wrote: what starts it, and the jail that confines it."""

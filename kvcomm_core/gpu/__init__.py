"""Parts that the engine uses on a GPU alone. Nothing here has run on one yet; tests run the parts on a CPU."""

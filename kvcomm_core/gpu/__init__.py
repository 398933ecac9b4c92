"""What the engine does in another way on a GPU. Nothing here has run on one yet; tests run its parts on a CPU."""

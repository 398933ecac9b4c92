"""``kvcomm bench``: tokens a second of the engine beside other engines on the same weights, and the machine's limit."""

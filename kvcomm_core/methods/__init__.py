"""Methods, one module each: ways to obtain the KV of a prompt by the protocols of ``kvcomm_core.method``."""

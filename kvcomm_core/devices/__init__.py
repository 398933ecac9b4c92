"""How tensors reach a device."""

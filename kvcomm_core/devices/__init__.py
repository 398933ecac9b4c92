"""Transfers of tensors to a device."""

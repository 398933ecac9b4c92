"""Tables that ``kvcomm show`` prints."""

"""What ``kvcomm show`` prints."""

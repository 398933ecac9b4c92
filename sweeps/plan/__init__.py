"""What is done, what is left, and how long it will take."""

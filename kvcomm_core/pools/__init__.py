"""What the method remembers: anchors, running means, the pools that hold them, eviction, and their state for a file."""

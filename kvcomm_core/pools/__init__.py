"""The memory of ``kvcomm``: anchors, running means, the pools that hold them, eviction, and their state for a file."""

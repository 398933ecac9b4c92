"""The controller, its replicas, and the recording of results."""

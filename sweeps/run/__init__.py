"""The controller, its replicas, and where results go."""

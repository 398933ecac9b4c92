"""MLflow, a view of the results that the controller alone writes."""

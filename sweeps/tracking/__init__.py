"""MLflow, a view of the results that only the controller writes."""

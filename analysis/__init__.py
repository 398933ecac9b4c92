"""From Parquet to tables and plots. Reads files; imports neither torch nor ray."""

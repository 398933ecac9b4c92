"""From Parquet to tables and plots. The package reads files and imports neither torch nor ray."""

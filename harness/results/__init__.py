"""What a trial yields, its columns, and the files that keep it."""

"""A study: its schema, the checks before it, its working directory, its subjects, and its work."""

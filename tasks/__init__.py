"""The catalogue of tasks: one family a file, one line a level."""

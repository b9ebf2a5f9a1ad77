"""The catalogue of tasks: one family per file, one line per level."""

"""Studies: one file each, found by its name; their committed records lie in `records/`."""

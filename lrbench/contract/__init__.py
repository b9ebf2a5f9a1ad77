"""What a method has to keep: the checks, the first file that passes them, and the faults of a dictionary."""

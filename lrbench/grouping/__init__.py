"""Many dictionaries in one training program: what a GPU needs, and the same numbers as one by one."""

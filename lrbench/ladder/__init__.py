"""The ladder: the default world made harder along one axis at a time, until a method finds less than half of it."""

"""The boundary: `fit` of a method from outside the catalogue runs in a process that never held the world, on data alone."""

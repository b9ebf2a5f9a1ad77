"""Data without end: a view that streams reads samples in blocks, each drawn when it is needed and held by nobody."""

"""Real representations: activations of a transformer on labelled items, and class means as a proxy for the truth."""

"""From a dictionary to scores: similarity, one-to-one matching, and the metrics."""

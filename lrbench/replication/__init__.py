"""Replication: the paper's tables, run again, and what explains the difference."""

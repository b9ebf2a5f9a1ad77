"""A run: cells are planned, trained and scored in worker processes, and each record is stored as it comes."""

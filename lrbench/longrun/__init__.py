"""Long trainings: what one keeps while it goes on, so that it survives and tells how far it is."""

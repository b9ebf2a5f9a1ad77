"""The parts of the study `real`: controls beside the scores on real activations."""

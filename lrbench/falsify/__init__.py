"""The settling test: worlds where the theory predicts an outcome, every SDL method trained there, and a verdict."""

"""What a training step does with latents, dense or active only."""

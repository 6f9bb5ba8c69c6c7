"""Denoising score matching: the loss, the state, its checkpoints, the loop."""

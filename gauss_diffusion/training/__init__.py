"""Denoising score matching: the loss, the state, its checkpoints, the loop."""

from gauss_diffusion.training import alarm, checkpoint, loop, losses, train_state

__all__ = ["alarm", "checkpoint", "loop", "losses", "train_state"]

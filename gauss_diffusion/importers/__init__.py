"""Networks trained elsewhere, brought in with the reference's names."""

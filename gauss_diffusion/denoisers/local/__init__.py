"""Denoisers that see a part of the image at a time: each place has a posterior of its own over patches.

What they share is `posterior`: exact distances of patches, summed from those of pixels, and a streaming
log-sum-exp for each place. They differ in the patch that a place looks at, in the patches of training images
that it is compared with, and in what is taken from their posterior. Niedoba et al. 2026 call these choices
query precision, source distribution and response weights:

    score_machines   the window around a pixel; at the same place, any, any with a border alike; the pixel
    patches          a square, or any mask; at the same place; the whole patch
    pca_locality     what the Gaussian denoiser reads for a pixel; at the same place; the pixel
"""

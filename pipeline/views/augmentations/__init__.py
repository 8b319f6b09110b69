"""Augmentations, a file each, and the pieces that they are made of."""

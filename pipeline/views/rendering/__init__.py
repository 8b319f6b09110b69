"""Views' pixels from what was drawn: image by image, or a batch by one index."""

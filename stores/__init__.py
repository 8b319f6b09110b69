"""Bytes and metadata: what a store of logits is on disk, how it is written, checked and read."""

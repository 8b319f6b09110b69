"""Locks between processes: who owns one, and whether the owner is still running."""

"""A store's folder: made empty, cleared of strays and leftovers, looked over before it is read."""

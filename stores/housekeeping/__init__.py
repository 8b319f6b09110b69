"""Care of a store's folder: creating it, removing strays and leftovers, checking presence."""

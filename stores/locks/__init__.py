"""What one process may do at a time: who owns a lock, and whether it still runs."""

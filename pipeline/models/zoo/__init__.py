"""The networks of the distillation literature, a family in a file."""

"""What the command lines of all jobs share: arguments, paths, output, progress, stopping."""

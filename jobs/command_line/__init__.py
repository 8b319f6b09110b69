"""What all jobs share at the command line: arguments, paths, output, progress, stopping."""

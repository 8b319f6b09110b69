"""The command line: each job parses, plans, shows progress and calls one stage."""

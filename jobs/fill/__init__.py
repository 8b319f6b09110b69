"""Filling a store: drivers that have the units of any task computed.

`store` makes a store from the first check of the disk to the seal. `in_process` computes in this
process, `parts` divides the units among independent processes, `processes` starts one of those for
each device, and `logitbank.jobs.cluster` hands units out to Dask workers. `sharing` parses which of
them the command line asks for.
"""

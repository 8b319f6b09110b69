"""Filling a store: who computes its units, whatever task they belong to.

`store` makes a store from its first look at the disk to the seal, `here` has this process compute,
`parts` shares the units out to processes that know nothing of each other, `processes` starts one
of those for each device, and `logitbank.jobs.cluster` hands units out to Dask's workers. `sharing`
reads which of them the command line asks for.
"""

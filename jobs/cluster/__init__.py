"""`--cluster WHERE`: the units of `cache` and `correct` computed by Dask's workers.

`where` reads WHERE, `clusters` opens what it names, `window` hands tasks out, `worker` is what runs
on the other side, and `running` composes them. Dask is imported only where a cluster is asked for.
"""

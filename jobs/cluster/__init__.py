"""`--cluster WHERE`: the units of `cache` and `correct` computed by Dask's workers.

`where` reads WHERE, `clusters` opens what it names, `window` hands Dask's tasks out, `worker` is
what runs on the other side, `running` composes them, and `driver` is what `logitbank.jobs.fill`
sees. Dask is imported only where a cluster is asked for.
"""

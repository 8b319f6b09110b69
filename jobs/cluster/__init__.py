"""`--cluster WHERE`: the units of `cache` and `correct` computed by Dask workers.

`spec` parses WHERE, `clusters` opens the cluster that it names, `window` submits Dask tasks,
`worker` is what runs on the workers, `running` composes these, and `driver` is the interface to
`logitbank.jobs.fill`. Dask is imported only if a cluster is asked for.
"""

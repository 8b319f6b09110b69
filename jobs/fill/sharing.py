"""Who computes a store's units, as given on the command line: by default this process."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from logitbank.jobs.cluster.spec import ClusterSpec, add_cluster_arguments, require_report_place
from logitbank.jobs.fill.parts import Part, add_part_argument
from logitbank.jobs.fill.processes import add_devices_argument
from logitbank.stores.errors import UsageError

EXCLUSIVE = (
    ("--cluster", "--virtual"),
    ("--devices", "--cluster"),
    ("--devices", "--virtual"),
    ("--part", "--cluster"),
    ("--part", "--virtual"),
)
"""Pairs of flags that can't be combined: the second leaves the first nothing to share."""


def add_sharing_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--cluster`, `--performance-report`, `--devices` and `--part`."""
    add_cluster_arguments(parser)
    add_devices_argument(parser)
    add_part_argument(parser)


@dataclass(frozen=True)
class Sharing:
    """How the work is shared: by part, by a process for each device, or by a Dask cluster.

    `report` is the file for Dask's performance report.
    """

    part: Part | None = None
    devices: tuple[str, ...] = ()
    cluster: ClusterSpec | None = None
    report: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        part: str | None = None,
        devices: Sequence[str] | None = None,
        cluster: ClusterSpec | None = None,
        report: str | None = None,
        virtual: bool = False,
    ) -> Sharing:
        """Check the flags; without any, a task of a SLURM array computes its own part.

        Args:
            part: I/N.
            devices: a process runs on each of them.
            cluster: the cluster whose workers compute.
            report: a file for Dask's performance report.
            virtual: whether the store has no units, and so nothing to share.

        Raises:
            UsageError: there is no such part, two flags can't be combined, or a report has no
                cluster or can't be saved.
            LogitbankError: bokeh, which draws reports, is not installed.
        """
        given = {
            "--part": part is not None,
            "--devices": bool(devices),
            "--cluster": cluster is not None,
            "--virtual": virtual,
        }
        for flag, other in EXCLUSIVE:
            if given[flag] and given[other]:
                raise UsageError(
                    f"{flag} can't be given with {other}, which leaves it nothing to share"
                )
        if report is not None:
            require_report_place(report, cluster)
        own = None if part is None else Part.parse(part)
        if own is None and not (given["--cluster"] or virtual):
            own = Part.of_array(os.environ)
        return cls(own, tuple(devices or ()), cluster, report)

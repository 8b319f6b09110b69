"""Rows corrected on a device: rows that are already there, and rows from host memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from logitbank.jobs.bench.correct_rows import COPY, RankedCodes, RowsMeasured, Ways
from logitbank.jobs.bench.timing import interleave
from logitbank.stores.corrections import BUILT_IN
from logitbank.stores.corrections.device import DeviceCorrector, correct_tensors

BATCH_ROWS = 16_384


def measure_device_rows(
    classes: int,
    dtype: str,
    megabytes: int,
    rounds: int,
    device: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RowsMeasured:
    """Measure one number of classes and one dtype relative to a copy within the device."""
    work = DeviceRowWork(RankedCodes.draw(classes, dtype, megabytes), torch.device(device))
    for name, way in work.ways.items():
        work.restore(name)
        way()
    rates = interleave(work.ways, rounds, prepare=work.restore, progress=progress)
    return RowsMeasured.of(work.rows, rates)


class DeviceRowWork:
    """The same rows for every way, on the device (`here`) and on the host (`host`)."""

    def __init__(self, rows: RankedCodes, device: torch.device) -> None:
        self.rows, self._device = rows, device
        self._codes, self._top, self._target = (
            torch.from_numpy(array).to(device) for array in (rows.codes, rows.top, rows.target)
        )
        self.here, self.here_top = self._codes.clone(), self._top.clone()
        self.host, self.host_top = rows.codes.copy(), rows.top.copy()
        ways: dict[str, Callable[[], int]] = {COPY: partial(self._timed, self._copy)}
        for name in BUILT_IN:
            ways[name] = partial(self._timed, partial(self._correct, name))
            corrector = DeviceCorrector(name, str(device), BATCH_ROWS)
            ways[f"{name}_from_host"] = partial(self._timed, partial(self._correct_host, corrector))
        self.ways: Ways = ways

    def restore(self, name: str) -> None:
        """Restore the uncorrected rows for the next way."""
        self.here.copy_(self._codes)
        self.here_top.copy_(self._top)
        self.host[...], self.host_top[...] = self.rows.codes, self.rows.top
        self._settle()

    def _timed(self, work: Callable[[], object]) -> int:
        work()
        self._settle()
        return self.rows.codes.nbytes

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _copy(self) -> None:
        self.here.copy_(self._codes)

    def _correct(self, name: str) -> None:
        correct_tensors(name, self.here, self.here_top, self._target)

    def _correct_host(self, corrector: DeviceCorrector) -> None:
        corrector(self.host, self.host_top, self.rows.target)

"""The error for a row that can't be corrected, and where the row is."""

from __future__ import annotations

from logitbank.stores.errors import StoreError


class BadRowError(StoreError):
    """A row that a correction refuses; `row` counts from the first row passed to it."""

    def __init__(self, row: int, cause: str, place: str | None = None) -> None:
        super().__init__(f"{place or f'row {row}'} {cause}: it can't be corrected")
        self.row, self.cause = row, cause

    def after(self, rows: int) -> BadRowError:
        """Return the error with `row` counted from `rows` rows earlier."""
        return BadRowError(self.row + rows, self.cause)

    def in_store(self, where: str, view: int, first_sample: int) -> BadRowError:
        """Return the error naming store, view and sample, where row 0 is `first_sample`."""
        sample = first_sample + self.row
        return BadRowError(sample, self.cause, f"{where}: view {view} of sample {sample}")

"""Rows that can't be corrected, and saying where they are."""

from __future__ import annotations

from logitbank.stores.errors import StoreError


class BadRowError(StoreError):
    """A row that a correction refuses: `row` counts from the first row that it was given."""

    def __init__(self, row: int, cause: str, place: str | None = None) -> None:
        super().__init__(f"{place or f'row {row}'} {cause}: it can't be corrected")
        self.row, self.cause = row, cause

    def after(self, rows: int) -> BadRowError:
        """Count from `rows` rows earlier."""
        return BadRowError(self.row + rows, self.cause)

    def in_store(self, where: str, view: int, first_sample: int) -> BadRowError:
        """Name the row by its store, view and sample; row 0 is `first_sample`."""
        sample = first_sample + self.row
        return BadRowError(sample, self.cause, f"{where}: view {view} of sample {sample}")

"""Encodings: how rows of float32 logits are kept in a store, and got back.

One file each: an encoding says which arrays hold a row and how, encodes and decodes, and is the
only code that knows its particulars. All else asks the object.
"""

from logitbank.stores.encodings.encoding import Encoding, LogitOutOfRangeError, RowArray
from logitbank.stores.encodings.registry import DEFAULT_ENCODING, ENCODINGS, encoding_named

__all__ = [
    "DEFAULT_ENCODING",
    "ENCODINGS",
    "Encoding",
    "LogitOutOfRangeError",
    "RowArray",
    "encoding_named",
]

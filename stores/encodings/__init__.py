"""Encodings: how a store keeps rows of float32 logits.

Each has one file, the only code that knows its details: which arrays hold a row, their dtypes and
codecs, how to encode and how to decode. Everything else asks the object.
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

"""MATLAB annotation files as plain Python values; a hostile file is refused and nothing in it is run."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from accord.data._names import printable
from accord.errors import DataError

MAX_BYTES = 128 * 2**20
_HEADER, _COMPRESSED = 128, 15


class Table:
    """A MATLAB struct array: one row per element, read by field name."""

    def __init__(self, array: Any, where: str) -> None:
        self._array, self.where = array, where

    def texts(self, field: str) -> list[str]:
        """A field that holds one text in every row."""
        values = self._column(field)
        for row, value in enumerate(values, start=1):
            if not isinstance(value, str) or not value:
                raise DataError(f"{self.where}, row {row}: '{field}' must be a text, not {_kind(value)}.")
        return [str(value) for value in values]

    def numbers(self, field: str) -> list[int]:
        """A field that holds one whole number in every row."""
        return [_whole(value, f"{self.where}, row {row}", field) for row, value in enumerate(self._column(field), 1)]

    def has(self, field: str) -> bool:
        """Whether the rows have such a field."""
        return field in (self._array.dtype.names or ())

    def _column(self, field: str) -> list[Any]:
        if not self.has(field):
            held = ", ".join(self._array.dtype.names or ()) or "none"
            raise DataError(f"{self.where}: the field '{field}' is missing. It holds: {printable(held)}.")
        return [row[field] for row in self._array]


def read_mat(data: bytes, file: str, *names: str) -> dict[str, Any]:
    """The variables `names` of a MATLAB 5 file, as far as it holds them, with single-element axes dropped.

    Such a file holds numbers, texts and structs, no code; what it claims to unpack to is bounded first.
    """
    from scipy.io import loadmat  # here and not above: it takes long to load and few data sets need it

    _check_size(data, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a variable that is there twice, whose last value counts
            found: dict[str, Any] = loadmat(BytesIO(data), squeeze_me=True, variable_names=list(names))
    except Exception as error:  # scipy raises a dozen unrelated types on damaged files
        raise DataError(f"{printable(file)}: the MATLAB file is damaged, or of version 7.3. Fetch it anew.") from error
    return {name: found[name] for name in names if name in found}


def table_of(values: dict[str, Any], name: str, file: str) -> Table:
    """A variable that must be a struct array."""
    import numpy as np

    value = values.get(name)
    if value is None or getattr(value, "dtype", np.dtype(float)).names is None:
        raise DataError(f"{printable(file)}: the MATLAB file holds no table called '{name}'.")
    return Table(np.atleast_1d(value).reshape(-1), f"{printable(file)}: {name}")


def numbers_of(values: dict[str, Any], name: str, file: str) -> list[int]:
    """A variable that must be a list of whole numbers."""
    return [
        _whole(value, f"{printable(file)}, entry {row}", name) for row, value in enumerate(_flat(values, name, file), 1)
    ]


def texts_of(values: dict[str, Any], name: str, file: str) -> list[str]:
    """A variable that must be a list of texts."""
    found = list(_flat(values, name, file))
    for row, value in enumerate(found, start=1):
        if not isinstance(value, str) or not value:
            raise DataError(f"{printable(file)}, entry {row}: '{name}' must be a text, not {_kind(value)}.")
    return [str(value) for value in found]


def _flat(values: dict[str, Any], name: str, file: str) -> Iterator[Any]:
    import numpy as np

    if name not in values:
        raise DataError(f"{printable(file)}: the MATLAB file holds nothing called '{name}'.")
    yield from np.atleast_1d(values[name]).reshape(-1)


def _whole(value: Any, where: str, name: str) -> int:
    try:
        number = int(value)
        if number != value:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: '{name}' must be a whole number, not {_kind(value)}.") from None
    return number


def _kind(value: Any) -> str:
    text = printable(str(value))
    return f"'{text}'" if len(text) <= 40 else f"a {type(value).__name__}"


def _check_size(data: bytes, file: str) -> None:
    """Refuse what unpacks to more than `MAX_BYTES`, before scipy would do so."""
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise DataError(f"{printable(file)}: this is no MATLAB 5 file. Fetch it anew.")
    order = "<" if data[126:128] == b"IM" else ">"
    left, place = MAX_BYTES - len(data), _HEADER
    while left >= 0 and place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind == _COMPRESSED:
            left -= _unpacked(data[place + 8 : place + 8 + size], left, file)
        place += 8 + size
    if left < 0:
        raise DataError(f"{printable(file)}: the MATLAB file unpacks to more than {MAX_BYTES} bytes; it was not read.")


def _unpacked(packed: bytes, most: int, file: str) -> int:
    """How many bytes these become; counting stops beyond `most`."""
    unpacker, size = zlib.decompressobj(), 0
    try:
        while packed and size <= most and not unpacker.eof:
            size += len(unpacker.decompress(packed, 2**20))
            packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise DataError(f"{printable(file)}: the MATLAB file is damaged. Fetch it anew.") from error
    return size

"""Opens Parquet files: the package that reads them is an extra, and what it raises becomes an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accord.data._names import printable
from accord.errors import DataError, ResourceError


@contextmanager
def parquet_file(path: Path, who: str) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`, mapped into memory, to be read from inside the block.

    ResourceError where pyarrow is missing, DataError where the file is damaged, wherever in the block that shows.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ResourceError(
            f"{who} needs the package pyarrow: pip install 'accord[parquet]'. Or save it as CSV."
        ) from None
    try:
        yield parquet.ParquetFile(path, memory_map=True)
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        reason = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise DataError(f"{who} is no whole Parquet file. Write it anew.\n  {reason}") from None

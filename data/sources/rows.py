"""Rows of data sets: JSON lines, compressed or not, and parquet; one row in memory at a time.

Covers: rows that are none, files that end too early. Does not cover: JSON in one array; parquet files that were cut
off, which have lost their directory, so nothing is read of them.
"""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.data.sources.streams import Corrupt, open_stream

SUFFIXES = tuple(
    f"{kind}{packed}"
    for kind in (".jsonl", ".json", ".ndjson")
    for packed in ("", ".gz", ".zst", ".xz", ".bz2")
) + (".parquet",)  # fmt: skip

LINE_BYTES = 64 << 20
"""A longer line is no row."""

BATCH_ROWS = 16
"""Rows of a parquet file that are decoded at once."""


class BadRow(Exception):
    """The row is not what its data set promises; the message says how."""


def read_rows(file: io.BufferedReader, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """The rows of a file, numbered from 1: lines of JSON (blank ones left out), or rows of parquet.

    Args:
        file: at its beginning; a parquet file has to be seekable.
        columns: what is read of a parquet file, as far as it is there.

    Raises:
        Corrupt: the file is damaged here; what came before was whole.
    """
    return _parquet(file, columns) if file.peek(4)[:4] == b"PAR1" else _lines(open_stream(file))


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, BadRow(f"a line of more than {LINE_BYTES >> 20} MiB")
        elif not line.isspace():
            yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, numbers and nesting that Python gives up on
        return BadRow(f"not JSON: {error}"[:100])
    return row if isinstance(row, dict) else BadRow(f"{type(row).__name__}, not an object")


def _parquet(file: io.BufferedReader, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    import pyarrow.parquet

    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        names = [name for name in columns if name in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
            cells = {name: _column(batch.column(name)) for name in names}
            for at in range(batch.num_rows):
                number += 1
                yield number, _row(cells, at)
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # Arrow raises several kinds, for the same damage
        raise Corrupt(f"{type(error).__name__}: {error}".replace("\n", " ")[:120]) from None


def _column(array: Any) -> Any:
    """Strings as bytes: Arrow does not check that they are UTF-8."""
    import pyarrow

    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pyarrow.types.is_string(array.type):
        return array.cast(pyarrow.binary())
    return array.cast(pyarrow.large_binary()) if pyarrow.types.is_large_string(array.type) else array


def _row(cells: dict[str, Any], at: int) -> dict[str, Any] | BadRow:
    row = {}
    for name, array in cells.items():
        try:
            value = array[at].as_py()
            row[name] = value.decode("utf-8") if isinstance(value, bytes) else value
        except (ValueError, OverflowError) as error:
            return BadRow(f"{name}: {error}"[:100])
    return row

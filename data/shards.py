"""Rows <-> MindRecord shards, each row with a checksum.

A shard is a `.mindrecord` file with one column, `input_ids` int32 [seq_length + 1], its `.db` index, whose content
names the shard (so neither can be renamed), and `.crc32`, the CRC-32 of every row. Before rows are read, the small
files and the shard's header are hashed and compared with the manifest (MindSpore ends the process at some broken
headers); then each row is handed out only if its CRC-32 is right. So what is read is as it was written, without
hashing terabytes before the first batch.

Covers: altered, truncated and missing files; a kill while a shard is written; a full disk.
Does not cover: alterations made with the checksums in mind; two writers of one shard at the same time.
"""

import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import PARTIAL, atomic_file, disk_errors, sha256_file
from mindgeex.data.document import file_entry

WRITE_ROWS = 1024
"""Rows handed to MindSpore at a time; part of the format, since a shard's bytes depend on it."""

HEADER_BYTES = 1 << 20
PAGE_BYTES = 1 << 22
"""MindRecord writes whole headers and pages; its own 16 and 32 MB would make the smallest shard 50 MB. A page holds at
least one row, so rows may have a million tokens."""

REMEDY = "build the corpus again with --overwrite"


def write_shard(rows: np.ndarray | Callable[[], np.ndarray], folder: Path, prefix: str, number: int) -> dict[str, Any]:
    """Writes `<prefix>-<number>.mindrecord` with its index and checksums, or finds that they are there.

    The bytes depend on the rows and the name alone. A kill leaves a `.partial` folder at most; the `.mindrecord` is
    renamed into place last.

    Args:
        rows: int32 [rows, seq_length + 1], or what makes them if they have to be written.
        folder: where; made if absent.
        prefix: the shards' name, also their `split` in the manifest.
        number: of the shard.

    Returns:
        The manifest's entry: file, bytes, sha256, split, rows, header_sha256, and the first three of `index` and
        `checksums`.

    Raises:
        UserError: the disk is full.
    """
    path = folder / f"{prefix}-{number:05d}.mindrecord"
    index, checksums = (path.with_name(path.name + end) for end in (".db", ".crc32"))
    if not all(file.exists() for file in (path, index, checksums)):
        array = rows() if callable(rows) else rows
        work = path.with_suffix(PARTIAL)
        with disk_errors(folder):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            _write_mindrecord(array, work / path.name)
            (work / checksums.name).write_bytes(_crc32(array).tobytes())
            for final in (index, checksums, path):
                with atomic_file(final) as partial:
                    os.replace(work / final.name, partial)
            work.rmdir()
    return {
        **file_entry(path, folder.parent),
        "split": prefix,
        "rows": checksums.stat().st_size // 4,
        "header_sha256": _header_sha256(path),
        "index": file_entry(index, folder.parent),
        "checksums": file_entry(checksums, folder.parent),
    }


def _write_mindrecord(rows: np.ndarray, path: Path) -> None:
    from mindspore.mindrecord import FileWriter

    try:
        writer = FileWriter(str(path), shard_num=1)
        writer.set_header_size(HEADER_BYTES)
        writer.set_page_size(PAGE_BYTES)
        writer.add_schema({"input_ids": {"type": "int32", "shape": [rows.shape[1]]}}, "rows of tokens")
        for start in range(0, len(rows), WRITE_ROWS):
            writer.write_raw_data([{"input_ids": row} for row in rows[start : start + WRITE_ROWS]])
        writer.commit()
    except RuntimeError as error:  # MindSpore stops so when less than about 10 MB are free
        if "No free disk" in str(error) or shutil.disk_usage(path.parent).free < rows.nbytes + PAGE_BYTES:
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def _header_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEADER_BYTES)).hexdigest()


def _crc32(rows: np.ndarray) -> np.ndarray:
    return np.fromiter(map(zlib.crc32, np.ascontiguousarray(rows, "<i4")), "<u4", len(rows))


def read_rows(folder: Path, shard: dict[str, Any], numbers: np.ndarray) -> np.ndarray:
    """Some rows of one shard, int32 [numbers, seq_length + 1], each with the CRC-32 that was written.

    Args:
        folder: the corpus's.
        shard: the manifest's entry.
        numbers: int64, which rows; ascending, none twice.

    Raises:
        UserError: a file is missing or altered, by name.
    """
    import mindspore.dataset as dataset

    path = folder / shard["file"]
    _check_frame(folder, shard)
    wanted = np.fromfile(folder / shard["checksums"]["file"], "<u4")[numbers]
    sampler = dataset.SubsetSampler(numbers.tolist())
    try:
        data = dataset.MindDataset([str(path)], ["input_ids"], num_parallel_workers=1, sampler=sampler)
        rows = [row for (row,) in data.create_tuple_iterator(num_epochs=1, output_numpy=True)]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, so it or its .db was altered: {REMEDY}") from error
    for number, row, crc32 in zip(numbers, rows, wanted.tolist(), strict=True):
        if zlib.crc32(row) != crc32:
            raise UserError(f"{path}: CRC-32 of row {number} is not the one written: altered; {REMEDY}")
    return np.stack(rows)


def count_rows(folder: Path, shard: dict[str, Any]) -> int:
    """Rows of a shard, as MindSpore counts them.

    Raises:
        UserError: a file is missing or altered, by name.
    """
    import mindspore.dataset as dataset

    path = folder / shard["file"]
    _check_frame(folder, shard)
    try:
        return int(dataset.MindDataset([str(path)], ["input_ids"]).get_dataset_size())
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, so it or its .db was altered: {REMEDY}") from error


def _check_frame(folder: Path, shard: dict[str, Any]) -> None:
    """Checks all of a shard but its rows."""
    check_file(folder, shard, hashed=False)
    check_file(folder, shard["index"])
    check_file(folder, shard["checksums"])
    path = folder / shard["file"]
    if _header_sha256(path) != shard["header_sha256"]:
        raise UserError(f"{path}: SHA-256 of its header differs from the manifest's: altered; {REMEDY}")


def check_file(folder: Path, entry: dict[str, Any], hashed: bool = True) -> None:
    """Checks a file against the manifest's entry: that it is there, its size, and its SHA-256 if `hashed`.

    Raises:
        UserError: what is wrong, naming the file.
    """
    path = folder / entry["file"]
    if not path.is_file():
        raise UserError(f"{path}: missing from the corpus: {REMEDY}")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise UserError(f"{path}: has {size} bytes, the manifest says {entry['bytes']}: truncated or altered; {REMEDY}")
    if hashed and sha256_file(path) != entry["sha256"]:
        raise UserError(f"{path}: SHA-256 differs from the manifest's: altered; {REMEDY}")

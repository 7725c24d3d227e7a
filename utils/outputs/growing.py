"""Arrays that are written to a file as they are computed, because memory may not hold them."""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from utils.outputs.atomic import PART, open_part, saving

Rows = npt.NDArray[Any]


class GrowingArray:
    """Takes rows of one shape and type, and gives them back as one array, which lies in the file. Raises SaveError."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file, self._folder = file, folder
        self.num_rows = 0

    def append(self, rows: Rows) -> None:
        with saving(self._folder):
            if self.num_rows == 0:
                self._row_shape, self._dtype = rows.shape[1:], rows.dtype
                self._write_header()
            assert (rows.shape[1:], rows.dtype) == (self._row_shape, self._dtype)
            self._file.write(np.ascontiguousarray(rows).data)
        self.num_rows += len(rows)

    def finish(self) -> "np.memmap[Any, Any]":
        """Return all rows. Changes to the array do not change the file."""
        with saving(self._folder):
            self._file.seek(0)
            self._write_header()
            start = self._file.tell()
            self._file.flush()
            return np.memmap(self._file, self._dtype, "c", start, (self.num_rows, *self._row_shape))

    def _write_header(self) -> None:
        """Write the header, in which NumPy leaves room for any number of rows."""
        shape = (self.num_rows, *self._row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextlib.contextmanager
def growing_array(folder: Path | None = None) -> Iterator[GrowingArray]:
    """Give an array to append rows to, at least one, and to finish; an error of the block leaves nothing of it.

    It lies in an unfinished file in `folder`, which is locked as long as the array is there and for `adopt_file` to
    name; by default in a temporary file, which goes with the array. Raises SaveError.
    """
    where = folder or Path(tempfile.gettempdir())
    with saving(where):
        where.mkdir(parents=True, exist_ok=True)
        file = open_part(where)
        if folder is None:
            os.unlink(file.name)
    try:
        yield GrowingArray(file, where)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        raise
    finally:
        with contextlib.suppress(OSError):  # that it cannot write what it could not write before
            file.close()


def adopt_file(rows: Rows, path: Path) -> bool:
    """Rename the unfinished file of a growing array to `path`. False if `rows` are not all that is in such a file.

    Raises SaveError.
    """
    part = _find_part(rows)
    if part is None:
        return False
    try:
        with saving(path):
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # after an error it is still there
            os.unlink(part)
    return True


def drop_file(rows: Rows) -> None:
    """Remove the unfinished file of a growing array, if it lies in one that has a name."""
    part = _find_part(rows)
    if part is not None:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _find_part(rows: Rows) -> str | None:
    """Return the path of the unfinished file that holds all of `rows` and nothing else."""
    part = rows.filename if isinstance(rows, np.memmap) and isinstance(rows.base, mmap.mmap) else None
    is_part = part is not None and PART.fullmatch(os.path.basename(part)) and os.path.exists(part)
    return str(part) if is_part else None

"""Numbers of a view as files: CSV for a spreadsheet, NPZ for a notebook."""

import csv
import io
from collections.abc import Mapping

import numpy as np


def table_csv(columns: Mapping[str, np.ndarray]) -> bytes:
    """Columns of equal length as UTF-8 CSV with one line of names. Floats keep every digit.

    Raises ValueError for columns that are not lines of one length.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    lengths = {name: array.shape for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise ValueError(f"the columns of a table must be lines of one length, got {lengths}")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(arrays)
    writer.writerows(zip(*(array.tolist() for array in arrays.values()), strict=True))
    return text.getvalue().encode()


def arrays_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of any shape as a compressed NPZ; none of them pickled.

    Raises ValueError for an array that could only be pickled.
    """
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which an NPZ without pickle cannot")
    file = io.BytesIO()
    np.savez_compressed(file, **plain)
    return file.getvalue()

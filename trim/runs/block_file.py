"""The file of a block of a run: its layers' arrays, named LAYER/ARRAY, and in the metadata their numbers."""

from collections.abc import Collection
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import safe_open

from trim.runs.fields import parse_json, read_value
from trim.runs.record import check_array
from trim.runs.shapes import BlockMetadata, LayerRecordJson


class BlockFile:
    """An open file of a block.

    Attributes:
        path: the file.
        stamp: its inode and time of change, which tell whether it was replaced.
        arrays: the names of each layer's arrays.
        numbers: the numbers of each layer, checked.
    """

    def __init__(
        self,
        path: Path,
        stamp: tuple[int, int],
        layers: Collection[str],
        numbers: dict[str, LayerRecordJson] | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: the file.
            stamp: see above.
            layers: the names of the layers that it must hold.
            numbers: what an earlier look at the same file has read; None: read them.

        Raises:
            OSError, SafetensorError, KeyError, ValueError: it is damaged.
        """
        self.path, self.stamp = path, stamp
        path.open("rb").close()  # `safe_open` says of a file that may not be read that there is none
        self._content = safe_open(path, "np")
        self.arrays: dict[str, list[str]] = {}
        for key in self._content.keys():  # noqa: SIM118
            name, _, array = key.rpartition("/")
            self.arrays.setdefault(name, []).append(array)
        if numbers is None:
            text = (self._content.metadata() or {})["trim"]
            numbers = cast(BlockMetadata, read_value(parse_json(text), BlockMetadata, path.name))["layers"]
        if not set(layers) == set(numbers) == self.arrays.keys():
            raise ValueError("its layers are not those of the manifest")
        self.numbers = numbers

    def read(self, layer: str, array: str) -> np.ndarray:
        """Read and check one array of a layer.

        Raises:
            OSError, SafetensorError, RunError: it is damaged.
        """
        value: np.ndarray = self._content.get_tensor(f"{layer}/{array}")
        check_array(layer, array, value, self.numbers[layer])
        return value

"""GGUF files: their header, read in a fraction of a second, and their weights, widened once and kept.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from trim.cache import cache_folder, new_folder, shrink_to_limit, touch
from trim.devices import is_out_of_memory, require_memory
from trim.errors import CacheError, ModelError, NotEnoughMemoryError
from trim.models.architecture import SUPPORTED, find_blocks
from trim.models.checkpoint import Progress, quiet
from trim.names import bytes_in_words

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
# Parsing holds the float32 weights twice for a moment: as NumPy arrays and as the model's own.
_PARSING_BYTES_PER_PARAMETER = 8


@dataclass(frozen=True)
class GgufHeader:
    """What the beginning of a GGUF file tells.

    Attributes:
        architecture: llama.cpp's name, such as "llama" or "qwen2".
        name: the model's name; empty where the file has none.
        blocks: transformer blocks.
        parameters: numbers in all tensors.
        experts: 0 unless the model is a mixture of experts.
        parts: files that the model is split into.
        has_tokenizer: whether the file holds a vocabulary.
    """

    architecture: str
    name: str
    blocks: int
    parameters: int
    experts: int
    parts: int
    has_tokenizer: bool


def read_header(path: Path) -> GgufHeader:
    """Read a GGUF file's header.

    Raises:
        ModelError: the file cannot be read, is no GGUF, or ends too early.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != MAGIC:
                raise ModelError(
                    f"{path.name} is no GGUF file: it begins with {magic!r} instead of {MAGIC!r}; a download that "
                    "failed may have left a web page under this name, and safetensors are loaded by their folder"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _parse(content)
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); give the path of a GGUF file that you may read"
        ) from error
    except (struct.error, OverflowError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path.name} is damaged or was not downloaded to its end; download it again"
        ) from error


def _parse(content: mmap.mmap) -> GgufHeader:
    reader = _Reader(content)
    version, tensors, entries = reader.integer("<I"), reader.integer("<Q"), reader.integer("<Q")
    if version not in (2, 3):
        raise ModelError(
            f"this GGUF file has format version {version:,}, and TRIM Lab reads 2 and 3 (little-endian); convert the "
            "model again with a current llama.cpp"
        )
    facts: dict[str, int | float | str] = {}
    for _ in range(entries):
        key = reader.string()
        facts[key] = reader.value(reader.integer("<I"))
    parameters = furthest = 0
    for _ in range(tensors):
        reader.string()
        size = 1
        for _ in range(reader.integer("<I")):
            size *= reader.integer("<Q")
        parameters += size
        _, offset = reader.integer("<I"), reader.integer("<Q")
        furthest = max(furthest, offset)
    if reader.position + furthest > len(content):
        raise ValueError("the last tensor lies behind the end of the file")
    architecture = str(facts["general.architecture"])
    return GgufHeader(
        architecture=architecture,
        name=str(facts.get("general.name", "")),
        blocks=int(facts.get(f"{architecture}.block_count", 0)),
        parameters=parameters,
        experts=int(facts.get(f"{architecture}.expert_count", 0)),
        parts=int(facts.get("split.count", 1)),
        has_tokenizer="tokenizer.ggml.tokens" in facts,
    )


class _Reader:
    """A cursor over the header. Running over the end raises struct.error."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.position = content, len(MAGIC)

    def integer(self, form: str) -> int:
        return int(self.number(form))

    def number(self, form: str) -> int | float:
        value: int | float
        (value,) = struct.unpack_from(form, self.content, self.position)
        self.position += struct.calcsize(form)
        return value

    def string(self) -> str:
        start = self._skip_string()
        return self.content[start : self.position].decode()

    def _skip_string(self) -> int:
        """Move behind a string; returns where its text begins."""
        length = self.integer("<Q")
        start = self.position
        self.position += length
        if self.position > len(self.content):
            raise ValueError("a text runs over the end of the file")
        return start

    def value(self, kind: int) -> int | float | str:
        """A value; of an array only its length, for a vocabulary has 100,000 entries."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        kind, length = self.integer("<I"), self.integer("<Q")
        if kind == _STRING:
            for _ in range(length):
                self._skip_string()
        else:
            self.position += length * struct.calcsize(_SCALARS[kind])
        return length


def dequantized(path: Path, sha256: str, say: Progress) -> Path:
    """A folder with the float16 weights and the tokenizer of a GGUF file, made once and kept in the cache.

    Parsing a GGUF takes half a minute, loading what comes out of it a second.

    Args:
        sha256: of the file's content.

    Raises:
        ModelError: the file cannot be read, or holds a model that cannot be pruned.
        NotEnoughMemoryError: there is no room to widen the weights.
        CacheError: there is no room on the disk for the widened weights.
    """
    target = cache_folder() / "models" / sha256[:32]
    if target.exists():
        touch(target)
        return target
    header = read_header(path)
    _check(path, header)
    require_memory(
        _PARSING_BYTES_PER_PARAMETER * header.parameters,
        torch.device("cpu"),
        f"widening the weights of {path.name}",
        "close other programs, or load the model from a folder with safetensors, which needs less",
    )
    say(f"Unpacking {path.name} to full-width weights (once, about half a minute)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
            )
            module = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except Exception as error:  # a foreign file in foreign parsers; the Rust one raises plain Exception
        if is_out_of_memory(error):
            raise NotEnoughMemoryError(
                f"memory filled up while {path.name} was widened; close other programs"
            ) from error
        raise ModelError(
            f"transformers cannot read {path.name} (architecture {header.architecture!r}): the file is damaged, or "
            f"its kind is not supported; TRIM Lab prunes {SUPPORTED}; as a way out, load the model's folder with "
            "safetensors"
        ) from error
    find_blocks(module)
    # What came from a GGUF still carries its quantizer, and then neither converts nor saves.
    del module.config.quantization_config
    vars(module).update(hf_quantizer=None, is_quantized=False)
    try:
        with new_folder(target) as folder, quiet():
            module.half().save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:
        if not _is_disk_error(error):
            raise
        raise CacheError(
            f"the widened weights of {path.name} ({bytes_in_words(2 * header.parameters)}) cannot be kept in "
            f"{target.parent}; make room on that disk, or set TRIM_CACHE to a folder on another one"
        ) from error
    shrink_to_limit(keep=target)
    return target


def _check(path: Path, header: GgufHeader) -> None:
    if header.parts > 1:
        raise ModelError(
            f"{path.name} is one of {header.parts} parts of a model; merge them first: "
            "llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )
    if header.experts:
        raise ModelError(
            f"TRIM Lab cannot prune {path.name}: its {header.experts} experts ({header.architecture}) are no single "
            f"layers; it prunes {SUPPORTED}"
        )
    if not header.has_tokenizer:
        raise ModelError(
            f"{path.name} holds no tokenizer, so no text can be given to the model; use a file with the whole model"
        )


def _is_disk_error(error: Exception) -> bool:
    """Whether writing failed: safetensors has an error of its own for it."""
    from safetensors import SafetensorError

    return isinstance(error, OSError | SafetensorError)

"""Bad files at every door of the app: the import of runs, texts of one's own, GGUF files and model folders.

The message for each kind of damage is tested beside each reader; here every file is brought to every door, and
good files are damaged at random. Each is refused with a message, or is complete.
"""

import contextlib
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trim
from app.services.runs.files import exported
from app.services.runs.importing import import_run
from app.services.runs.uploads import store_text
from benchmarks.mutations import damage
from tests.app.small_runs import make_run
from tests.trim import rough, tiny
from tests.trim.models.test_gguf import write as write_gguf
from trim.errors import TrimError


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip of these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def safetensors(header: object, size: int | None = None, data: bytes = b"\0" * 16) -> bytes:
    """Return a safetensors file with that header, and that length of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {
        "model.layers.0.mlp.up_proj.weight": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    }


def gguf(version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


CORPUS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\0",
    "zeros": bytes(100_000),
    "no text": b"\xfd\xfe\xff" * 1000,
    "blanks": b" \n\t" * 1000,
    "a page": b"<html><script>alert(1)</script></html>",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a pickle": b"\x80\x04\x95\x1e\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "deep JSON": b"[" * 200_000,
    "a long number": b'{"text": ' + b"9" * 100_000 + b"}\n",
    "nothing in it": b'{"text": null}\n' * 100,
    "surrogates": b'{"text": "\\ud800"}\n' * 100,
    "an empty zip": zipped({}),
    "a zip of nothing": zipped({"config.json": b"{}"}),
    "a zip that leaves": zipped({"../../config.json": b"{}"}),
    "a zip of a pickle": zipped({"run/config.json": b"{}", "run/blocks/000.bin": b"\x80\x04N."}),
    "a zip bomb": zipped({"run/config.json": b"0" * 30_000_000}),
    "half a zip": zipped({"run/config.json": b"{}" * 1000})[:60],
    "parquet at both ends": b"PAR1" + b"\xff" * 1000 + b"PAR1",
    "GGUF and no more": b"GGUF",
    "GGUF of another age": gguf(version=2**31),
    "GGUF of too much": gguf(tensors=2**63, keys=2**63),
    "GGUF with a long name": gguf(keys=1, rest=struct.pack("<Q", 2**62) + b"x"),
    "GGUF with an unknown type": gguf(keys=1, rest=struct.pack("<Q", 1) + b"x" + struct.pack("<I", 99)),
    "GGUF with lists of lists": gguf(
        keys=1, rest=struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 9, 2**60) * 50
    ),
    "safetensors of too much": safetensors({}, size=2**63 - 1),
    "safetensors, short": safetensors({}, size=10_000),
    "safetensors of nothing": safetensors({}),
    "safetensors, no JSON": safetensors(b"{'a': 1}"),
    "safetensors, outside": safetensors(tensor([4], 0, 2**40)),
    "safetensors, backwards": safetensors(tensor([4], 16, 0)),
    "safetensors, enormous": safetensors(tensor([2**31, 2**31], 0, 16)),
    "safetensors, unknown": safetensors(tensor([4], 0, 16, "F3")),
    "safetensors, negative": safetensors(tensor([-1], 0, 16)),
}


def one_block(folder: Path) -> Path:
    return rough.make_model("llama", folder, num_hidden_layers=1)


class Doors:
    """Where files come in; each returns normally only for a file that is what it should be."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.model = one_block(folder / "model")
        self.other = folder / "other"
        self.other.mkdir()

    def run(self, content: bytes) -> None:
        path = import_run(io.BytesIO(content), self.runs, lambda _: False)
        assert trim.open_run(path).layers
        shutil.rmtree(path)

    def text(self, content: bytes, ending: str) -> None:
        path = store_text(f"<b>mine</b>.{ending}", content)
        trim.load_corpus(str(path), tiny.tokenizer(), windows=2, length=8)

    def gguf(self, content: bytes) -> None:
        path = self.other / "model.gguf"
        path.write_bytes(content)
        trim.describe_model(path)
        trim.load_model(path, device="cpu")

    def weights(self, content: bytes) -> None:
        (self.model / "model.safetensors").write_bytes(content)
        trim.describe_model(self.model)
        trim.load_model(self.model, device="cpu")

    @property
    def all(self) -> dict[str, Callable[[bytes], None]]:
        texts = {
            ending: lambda content, ending=ending: self.text(content, ending)
            for ending in ("jsonl", "parquet")
        }
        return {"run": self.run, "gguf": self.gguf, "weights": self.weights, **texts}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(tmp_path_factory.mktemp("doors"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path_factory.getbasetemp() / "cache of hostile files"))


def refused(door: Callable[[bytes], None], content: bytes) -> None:
    """Assert that the file is refused by an error that can be shown on a page."""
    with pytest.raises(TrimError) as caught:
        door(content)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 2000
    assert "Traceback" not in message


@pytest.mark.parametrize("name", CORPUS)
def test_every_bad_file_is_refused_at_every_door(doors, name):
    for door in doors.all.values():
        refused(door, CORPUS[name])
    if name in ("empty", "no text", "blanks"):  # the others are a text that somebody may want to read
        refused(lambda content: doors.text(content, "txt"), CORPUS[name])
    assert not doors.runs.exists() or not list(doors.runs.iterdir())


# ------------------------------------------------------------------------------------------ good files, damaged


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file for every door."""
    folder = tmp_path_factory.mktemp("good")
    with exported(trim.open_run(make_run(folder / "first")), masks=True) as file:
        run = file.read()
    write_gguf(folder / "model.gguf")
    return {
        "run": run,
        "gguf": (folder / "model.gguf").read_bytes(),
        "weights": (one_block(folder / "model") / "model.safetensors").read_bytes(),
    }


@pytest.mark.parametrize("door", ["run", "gguf", "weights"])
def test_a_damaged_file_is_refused_or_still_good(doors, good, door):
    @given(st.randoms(use_true_random=False))
    def bring(random: Random) -> None:
        with contextlib.suppress(TrimError):
            doors.all[door](damage(random, good[door]))
        assert not doors.runs.exists() or not list(doors.runs.iterdir())

    bring()

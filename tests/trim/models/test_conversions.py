"""What `transformers` converts while it loads lies in the files as rows, and is read and written there."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.core_model_loading import (
    Chunk,
    Concatenate,
    ConversionOps,
    ErnieFuseAndSplitTextVisionExperts,
    Interleave,
    MergeModulelist,
    Split,
    Transpose,
    WeightConverter,
)

from trim.models.conversions import Conversion, StoredTensor
from trim.models.experts import Experts, MatrixPart
from trim.models.tensor_files import TensorFiles
from trim.pruning.export import changed_part

if TYPE_CHECKING:
    from trim.models.conversions import ConvertedModel

EXPERTS, ROWS, COLUMNS = 3, 4, 5
GATE_UP = torch.Size((EXPERTS, 2 * ROWS, COLUMNS))
# Steps, the shapes of the sources, and the model's names.
KINDS: dict[str, tuple[list[ConversionOps], list[tuple[int, ...]], list[str]]] = {
    "equal parts": ([Chunk(dim=0)], [(6, 5)], ["q", "k", "v"]),
    "unequal parts": ([Split(dim=0)], [(6, 5)], ["q", "k"]),
    "alternate rows": ([Interleave(dim=0), Chunk(dim=0)], [(6, 5)], ["gate", "up"]),
    "transposed": ([Transpose(dim0=0, dim1=1)], [(6, 5)], ["gate"]),
    "several tensors": ([Concatenate(dim=0)], [(6, 5), (2, 5)], ["gate_up"]),
}
# The same for experts, whose tensor in the model is GATE_UP.
EXPERT_KINDS: dict[str, tuple[list[ConversionOps], list[tuple[int, ...]]]] = {
    "transposed": ([Transpose(1, 2, check_dims=True)], [(EXPERTS, COLUMNS, 2 * ROWS)]),
    "alternate rows": ([Interleave(dim=1)], [GATE_UP]),
    "gate and up apart": ([Concatenate(dim=1)], [(EXPERTS, ROWS, COLUMNS)] * 2),
    "experts apart": ([MergeModulelist(dim=0), Concatenate(dim=1)], [(ROWS, COLUMNS)] * 2 * EXPERTS),
    "experts of text and of pictures": (
        [ErnieFuseAndSplitTextVisionExperts(stack_dim=0, concat_dim=1)],
        [(ROWS, COLUMNS)] * 2 * 2 * EXPERTS,
    ),
}


def converted(
    path: Path, steps: list[ConversionOps], shapes: list[tuple[int, ...]], targets: list[str]
) -> tuple[Conversion, dict[str, Tensor], TensorFiles]:
    """A conversion of random tensors in a file, what `transformers` makes of them, and the file."""
    patterns = [f"stored{place}" for place in range(2 if len(shapes) > 1 else 1)]
    sources = [(f"{patterns[place % 2]}.{place:02}", patterns[place % 2]) for place in range(len(shapes))]
    tensors = {name: torch.randn(shape) for (name, _), shape in zip(sources, shapes, strict=True)}
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text("{}")
    sizes = {"gate_up_proj": GATE_UP, "q": (4, 5), "k": (2, 5)}
    model = cast(
        "ConvertedModel", SimpleNamespace(config=None, get_parameter=lambda name: torch.empty(sizes[name]))
    )
    conversion = Conversion(WeightConverter(patterns, targets, steps), targets[0], sources)
    return conversion, conversion.convert(model, iter(tensors.values())), TensorFiles(path)


def require_stored(stored: StoredTensor, expected: Tensor, files: TensorFiles) -> None:
    """A tensor is where it is said to be, and what is written there is read again."""
    place = files.places[stored.name]
    assert stored.own_shape == stored.of(expected).shape
    with place.path.open("r+b") as file:
        with changed_part(file, place, stored) as view:
            assert torch.equal(view, stored.of(expected))
            view.neg_()
        with changed_part(file, place, stored) as view:
            assert torch.equal(view, -stored.of(expected))
            view.neg_()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_the_files(kind, tmp_path):
    conversion, made, files = converted(tmp_path, *KINDS[kind])
    before = load_file(tmp_path / "model.safetensors")
    places = conversion.places(made, files)
    assert list(places) == list(made)
    for name, stored in places.items():
        assert sum(len(each.of(made[name])) for each in stored) == len(made[name])
        for each in stored:
            require_stored(each, made[name], files)
    after = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", EXPERT_KINDS)
def test_experts_in_the_files(kind, tmp_path):
    names = ["text.gate_up_proj", "vision.gate_up_proj"] if "pictures" in kind else ["gate_up_proj"]
    conversion, made, files = converted(tmp_path, *EXPERT_KINDS[kind], names)
    assert list(made) == names
    experts = cast(
        Experts, SimpleNamespace(count=EXPERTS, joined={"gate_up_proj": torch.empty(GATE_UP, device="meta")})
    )
    assert conversion.places(made, files) == {}
    for name, rows in itertools.product(names, (slice(ROWS), slice(ROWS, 2 * ROWS))):
        stored = conversion.expert_places(name, MatrixPart("gate_up_proj", rows=rows), experts, files)
        assert len(stored) == EXPERTS
        for place, each in enumerate(stored):
            require_stored(each, made[name][place, rows], files)


def test_what_does_not_lie_in_the_files_as_rows(tmp_path):
    conversion, made, files = converted(tmp_path, [Concatenate(dim=1)], [(6, 5), (6, 5)], ["both"])
    assert conversion.places(made, files) == {}

"""Find the files of a model folder that hold its weights, as `transformers` does: once, for all that read a folder."""

import json
from pathlib import Path, PurePosixPath

from trim.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: Path, *, complete: bool = True) -> tuple[list[str], str | None]:
    """Find the files that hold a folder's weights, and the index that names them; None where one file holds all.

    As `transformers` chooses: the file or index that config.json names as "transformers_weights", else
    `model.safetensors`, else the files of `model.safetensors.index.json`. A folder may hold others too, such as the
    shards of an earlier save; no program reads those.

    Args:
        folder: the model folder.
        complete: whether every file that an index names must be there.

    Returns:
        Paths relative to the folder, in the order in which they are read.

    Raises:
        ModelError: there are none, a part is missing, the index is damaged, or only pickle files are there.
    """

    def find(index: str) -> list[str]:
        names = index_files(folder / index)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing and complete:
            raise ModelError(
                f"{folder} lacks {len(missing)} of the {len(names)} parts that its index names, such as {missing[0]}; "
                "get the missing parts from where the model comes from"
            )
        return names

    if named := _named_weights(folder):
        if not (folder / named).is_file():
            raise ModelError(
                f"{folder} lacks {named}, which its config.json names; get it from where the model comes from"
            )
        return (find(named), named) if named.endswith(".index.json") else ([named], None)
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS], None
    if (folder / INDEX).is_file():
        return find(INDEX), INDEX
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(pickle_advice(str(folder), pickles[0]))
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise ModelError(
            f"{folder} holds {others[0]}, but neither {WEIGHTS} nor {INDEX}: perhaps an adapter; merge it into its "
            "base model and save the result with save_pretrained"
        )
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    hint = (
        f"; it holds {ggufs[0]}: give that file's own path"
        if ggufs
        else f"; give the folder that holds {WEIGHTS}"
    )
    if (folder / "manifest.json").is_file():
        raise ModelError(
            f"{folder} is a run, and this needs a model; write the run's model with: python -m trim export {folder} OUT"
        )
    raise ModelError(f"{folder} holds no weights ({WEIGHTS}){hint}")


def _named_weights(folder: Path) -> str | None:
    """Read the name that config.json gives to the weights; None: the usual names."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError, RecursionError):  # `read_config` reports it
        return None
    if named is None:
        return None
    if not isinstance(named, str) or not named.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError(
            f"{folder / 'config.json'} names {named!r} as its weights, which are not safetensors; get the model again "
            "from where it comes from"
        )
    _require_inside(named, folder / "config.json")
    return named


def index_files(index: Path) -> list[str]:
    """List the files that an index names, in the order in which they are read.

    Raises:
        ModelError: it is damaged, or names a file outside the folder.
    """
    return sorted(set(read_weight_map(index).values()))


def read_weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor that an index names."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        found: dict[str, str] = content["weight_map"]
        if not found or not isinstance(content["metadata"], dict):  # transformers needs both
            raise ValueError
        for name in set(found.values()):
            _require_inside(name, index)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged; get it again from where the model comes from") from error
    return found


def _require_inside(name: str, where: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise ModelError(
            f"{where} names {name!r}, a file outside the model's folder; get the model again from where it comes from"
        )


def pickle_advice(where: str, name: str) -> str:
    """Explain why a pickle is not loaded, and how its owner converts it to safetensors."""
    return (
        f"{where} holds its weights as pickle only ({name}), which can run any code when it is opened, so TRIM Lab "
        "does not load it; where you trust it, convert it once: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), also the tokenizer, and load "
        "the new folder"
    )

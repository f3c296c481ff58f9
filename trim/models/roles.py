"""The layers of a block that belong together, by their names: those that read the same input, and those of one MLP."""

from collections.abc import Iterable
from dataclasses import dataclass

from trim.models.heads import KINDS

# Gate, up and down of gated MLPs, as the architectures call them; without a gate, up and down.
_GATED = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
_PLAIN = (
    ("c_fc", "c_proj"),
    ("fc1", "fc2"),
    ("fc_in", "fc_out"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("up_proj", "down_proj"),
    ("lin1", "lin2"),
)


@dataclass(frozen=True)
class MlpLayers:
    """The layers of one MLP: row i of gate and up makes channel i, which column i of down reads.

    Attributes:
        gate: None where the MLP has none.
        up, down: names of layers.
    """

    gate: str | None
    up: str
    down: str

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the layers that exist."""
        return tuple(name for name in (self.gate, self.up, self.down) if name is not None)


def in_mlp(name: str) -> bool:
    """Return whether a layer is called like one of an MLP."""
    *path, last = name.split(".")
    return not any("attn" in part or "attention" in part for part in path) and any(
        last in parts for parts in (*_GATED, *_PLAIN)
    )


def mlp_layers(name: str, layers: Iterable[str]) -> MlpLayers | None:
    """Return the MLP that a layer is part of; None: it is part of none, or `layers` lack a part of the MLP.

    mlp_layers("3.mlp.up_proj", model.layers)
    """
    parent, _, last = name.rpartition(".")
    existing = set(layers)
    for parts in (*_GATED, *_PLAIN):
        names = [f"{parent}.{part}" for part in parts]
        if last in parts and existing.issuperset(names):
            return MlpLayers(names[0] if len(names) == 3 else None, names[-2], names[-1])
    return None


def sharing_input(name: str, layers: Iterable[str]) -> list[str]:
    """Return the layers that read the same input, `name` among them, in the order of `layers`.

    sharing_input("3.self_attn.q_proj", model.layers)
    """
    parent, _, last = name.rpartition(".")
    attention = {part for kind in ("query", "key", "value") for part in KINDS[kind]}
    together = next(
        (group for group in (attention, *({gate, up} for gate, up, _ in _GATED)) if last in group), {last}
    )
    return [
        each for each in layers if each.rpartition(".")[0] == parent and each.rpartition(".")[2] in together
    ]

"""The reasons why a model cannot be pruned, and the sentence that the user reads."""

from enum import StrEnum

from trim.errors import ModelError

SUPPORTED = "Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 2 and 3, OPT and decoders built like them"


class Reason(StrEnum):
    """Why a type of models cannot be pruned."""

    ENCODER = "it is an encoder or has one, and is not a decoder that only reads from left to right"
    NO_LINEAR_LAYERS = "it has no stack of blocks with linear layers (nn.Linear) that a text goes through"
    RECURRENT_STATE = "its blocks pass on more than hidden states, so they cannot be run one after the other"
    CODE = "it needs code from outside: of its own repository, which TRIM Lab never runs, or of a package not installed"
    TOO_LARGE = "it cannot be built small enough to test"  # used only by `benchmarks.architectures`


def unsupported(name: str, reason: Reason, what: str = "") -> ModelError:
    """Return the error that a model cannot be pruned for a reason; `what`: the evidence."""
    return ModelError(
        f"TRIM Lab cannot prune {name}: {reason}{f' ({what})' if what else ''}; it prunes {SUPPORTED}"
    )

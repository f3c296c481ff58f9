"""Check every text-generating type of the installed `transformers`, tiny and random: pruned correctly, or refused.

For each type: our pass block by block at zero sparsity gives the logits of a plain forward pass; `trim.prune` by Wanda
gives exactly the target sparsity, and the masks of a Wanda written here with plain hooks; the export gives in plain
`transformers` the logits of that Wanda's model. --write writes the table in docs/models-and-texts.md; with TYPE … only
the rows of these types change.

    python -m benchmarks.architectures [--write] [TYPE …]
"""

import collections
import contextlib
import datetime
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

import trim
from benchmarks.script import print_report, script_parser
from benchmarks.tiny_configs import small_config, types
from tests.trim import tiny
from trim.calibration.calibration import Calibration
from trim.calibration.inputs import MIN_TOKENS
from trim.calibration.layers import linear_layers
from trim.calibration.text_pass import text_pass
from trim.models.architecture import UNBUILT, blueprint
from trim.models.checkpoint import read_config
from trim.models.experts import RoutedLinear
from trim.models.loaded import Model
from trim.models.reasons import Reason
from trim.models.replay import run_after_blocks
from trim.models.streamed import StreamedModel
from trim.models.towers import auto_class

DOCUMENT = Path(__file__).parents[1] / "docs" / "models-and-texts.md"
BEGIN, END = "<!-- python -m benchmarks.architectures --write -->", "<!-- end of the table -->"
SPARSITY = 0.5
WINDOWS, LENGTH = 4, 24
# The largest difference of logits that counts as rounding: they are float32 and of order one.
TOLERANCE = 1e-4
MAX_PARAMETERS = 80_000_000
# transformers itself does not find the weights of these in the names under which it saves them.
NOT_READ_AS_SAVED = ("shieldgemma2",)


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """Make a model with weights far enough from zero that each of its parts shows in the logits."""
    torch.manual_seed(0)
    module = auto_class(config).from_config(config).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 or (parameter.ndim == 3 and "expert" in name):
                parameter.normal_(std=0.15)
            elif parameter.ndim == 1 and "norm" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


@torch.no_grad()
def logits(module: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Return the logits of a plain forward pass."""
    found: Tensor = module(input_ids=tokens, use_cache=False).logits
    return found


@torch.inference_mode()
def logits_block_by_block(folder: Path, tokens: Tensor) -> Tensor:
    """Return the logits of our pass, with one block at a time in memory."""
    model = StreamedModel(folder, device=torch.device("cpu"))
    with text_pass(model, Calibration.of(tokens), batch=2, folder=folder) as text:
        for index in range(len(model.blocks)):
            with model.block(index) as block:
                text.propagate(index, block)
        states = text.states.read(slice(0, len(tokens)), torch.device("cpu"))
    with model.outside() as module:
        return run_after_blocks(module, model.blocks, tokens, None, states)


@contextlib.contextmanager
def squares_of(layers: dict[str, nn.Linear]) -> Iterator[dict[str, Tensor]]:
    """Collect Σ x_j² over the tokens that each layer receives; 1 if they are too few for norms to count."""
    sums: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            square = arguments[0].reshape(-1, arguments[0].shape[-1]).double().square().sum(0)
            sums[name] = sums.get(name, 0) + square
            tokens[name] = tokens.get(name, 0) + arguments[0].shape[:-1].numel()

        return add

    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(listen(name)))
        yield sums
    for name, square in sums.items():
        if isinstance(layers[name], RoutedLinear) and tokens[name] < MIN_TOKENS:
            square.fill_(1)


@torch.no_grad()
def wanda(model: Model, tokens: Tensor) -> dict[str, Tensor]:
    """Prune each layer's rows by |w| · ‖x‖, block by block from complete forward passes; return the scores."""
    scores = {}
    chosen = model.select(["*"])
    for index, block in enumerate(model.blocks):
        layers = linear_layers(block, index, chosen)
        with squares_of(layers) as squares:
            logits(model.module, tokens)
        for name, layer in layers.items():
            scores[name] = layer.weight.double().abs() * squares[name].sqrt()
            lowest = scores[name].argsort(dim=1, stable=True)[:, : round(layer.in_features * SPARSITY)]
            layer.weight.scatter_(1, lowest, 0)
    return scores


def check(kind: str, work: Path) -> str:
    """Check one type; return "" if all is right, or else why it is refused.

    Raises:
        AssertionError: a check failed; the message says which.
    """
    original = work / "model"
    try:
        whole = small_config(kind)
    except ImportError:  # the installation is broken
        raise
    except Exception:  # the type's sizes must fit each other in its own way
        return Reason.TOO_LARGE
    whole.save_pretrained(original)
    try:
        config = read_config(original)
        size = sum(parameter.numel() for parameter in blueprint(config).parameters())
    except trim.ModelError as error:
        return reason(error)
    if size > MAX_PARAMETERS:
        return Reason.TOO_LARGE
    random_model(whole).save_pretrained(original, save_original_format=kind not in NOT_READ_AS_SAVED)
    tiny.tokenizer().save_pretrained(original)
    tokens = torch.randint(3, 250, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(0))
    try:
        trim.describe_model(original)
        StreamedModel(original, device=torch.device("cpu"))
    except trim.ModelError as error:
        return reason(error)
    plain = auto_class(config).from_pretrained(original, config=config).eval()
    expected = logits(plain, tokens)
    gap = float((logits(plain, tokens[:, :-1]) - expected[:, :-1]).abs().max())
    assert gap < TOLERANCE, f"without its last token a text's other logits differ by {gap:.2g}"
    gap = float((logits_block_by_block(original, tokens) - expected).abs().max())
    assert gap < TOLERANCE, f"block by block the logits differ by {gap:.2g}"
    run = trim.prune(original, work / "run", tokens=tokens, target=SPARSITY, allocation="uniform")
    model = Model(kind, kind, kind, plain, tiny.tokenizer())
    scores, dense = wanda(model, tokens), StreamedModel(original, device=torch.device("cpu"))
    for name in run.layers:
        layer = model.layers[name]
        kept, ours = torch.from_numpy(run.layer(name).keep()), layer.weight != 0
        assert kept.sum() == ours.sum(), f"{name}: the sparsity is not exact"
        differ = kept != ours
        limit = scores[name].median(dim=1, keepdim=True).values.expand_as(differ)
        # Of two scores that are equal up to rounding, either may be pruned.
        tied = (scores[name] - limit).abs() < 1e-5 * limit
        assert not bool((differ & ~tied).any()), f"{name}: {int(differ.sum())} places of the masks differ"
        layer.weight.data = torch.where(kept, dense.weight(name), 0)
    exported = auto_class(config).from_pretrained(trim.export(run, work / "export"), config=config).eval()
    gap = float((logits(exported, tokens) - logits(plain, tokens)).abs().max())
    assert gap < TOLERANCE, f"the logits of the export differ by {gap:.2g}"
    return ""


def reason(error: trim.ModelError) -> str:
    """Return the known reason that an error gives.

    Raises:
        AssertionError: the error gives no known reason.
    """
    if UNBUILT in str(error):
        return Reason.TOO_LARGE
    (found,) = [reason for reason in Reason if reason in str(error)] or [""]
    assert found, f"refused for no reason that is known: {error}"
    return found


def checked(kind: str) -> tuple[str, str]:
    """Return a type's outcome, "pruned", "refused" or "fault", and its reason."""
    with tempfile.TemporaryDirectory() as work:
        os.environ["TRIM_CACHE"] = f"{work}/cache"
        try:
            refused = check(kind, Path(work))
            return ("refused", refused) if refused else ("pruned", "")
        except Exception as error:
            lines = f"{type(error).__name__}: {error}".splitlines()
            return "fault", re.sub(r"/\S+/model", "its folder", lines[0])[:160]


def table(outcomes: dict[str, tuple[str, str]]) -> str:
    """Return the outcomes as Markdown, with date and versions."""
    by_kind: dict[str, list[str]] = {}
    version = torch.__version__.partition("+")[0]
    for kind, (outcome, why) in outcomes.items():
        by_kind.setdefault(why if outcome != "pruned" else "", []).append(f"`{kind}`")
    pruned = by_kind.pop("", [])
    rows = sorted(by_kind.items(), key=lambda row: -len(row[1]))
    return "\n".join(
        [
            f"{datetime.date.today()}, transformers {transformers.__version__}, torch {version}: "
            f"{len(pruned)} of {len(outcomes)} types that write text pass all checks.",
            "",
            "Pruned: " + ", ".join(pruned) + ".",
            "",
            "| not pruned, because | types |",
            "|---|---|",
            *(f"| {why} | {', '.join(kinds)} |" for why, kinds in rows),
        ]
    )


def written(text: str) -> dict[str, tuple[str, str]]:
    """Return the outcomes in a table."""
    outcomes = {}
    for line in text.splitlines():
        why, _, kinds = line.removeprefix("| ").partition(" | ") if line[:1] == "|" else ("", "", line)
        if why or line.startswith("Pruned: "):
            outcome = "refused" if why in list(Reason) else "fault" if why else "pruned"
            outcomes |= dict.fromkeys(re.findall("`(.+?)`", kinds), (outcome, why))
    return outcomes


def main() -> None:
    """Check the types, and print the table."""
    parser = script_parser(__doc__)
    parser.add_argument("types", nargs="*", help="types of the installed transformers; default: all")
    parser.add_argument(
        "--write", action="store_true", help=f"write the table into {DOCUMENT.name}; others stay"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    begin = time.perf_counter()
    outcomes: dict[str, tuple[str, str]] = {}
    for kind in options.types or types():
        outcomes[kind] = checked(kind)
        print(f"{kind:28} {outcomes[kind][0]:8} {outcomes[kind][1]}", flush=True)
    if options.write:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        old, _, after = rest.partition(END)
        known = written(old) | outcomes
        found = table({kind: known[kind] for kind in types()})
        DOCUMENT.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}", encoding="utf-8")
    counts = collections.Counter(outcome for outcome, _ in outcomes.values())
    print_report("architectures", seconds=round(time.perf_counter() - begin), **counts)


if __name__ == "__main__":
    main()

"""The contents of the Compare page: up to eight slots, each a pick of a run or of a live layer."""

import dataclasses
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.services.results.picks import EVERY_BLOCK, LETTERS, UNIFORM, Pick, every_expert, layers_of
from app.services.runs.layer import METHOD_LABELS, LayerView
from app.services.runs.store import RunStore
from app.services.server.lru import SharedCache, cached
from diagnostics.allocation import RowAllocation
from diagnostics.comparison import AllocationComparison, compare_allocations
from diagnostics.format import change, number, percent
from trim.errors import RunError
from trim.methods.agreement import MaskAgreement, mask_agreement
from trim.names import expert_number
from trim.runs.folder import Run
from trim.runs.options import idle_options, options
from trim.runs.run_record import ModelFacts, TextFacts
from trim.runs.settings import PruneSettings

LIVE = "live:"  # prefix of the id of a live layer; a folder cannot have this name
MAX_LIVE_LAYERS = 64
MAX_LIVE_MASK_WEIGHTS = 2**25
NOT_USED = "not used"  # shown for an option that has no effect, given the others
COMPARISON_CACHE_SIZE = 64
_comparisons: SharedCache[Hashable, AllocationComparison] = SharedCache(COMPARISON_CACHE_SIZE)


@dataclass(frozen=True)
class ComparedSource:
    """The origin of a compared layer.

    Attributes:
        name: the run's name.
        model, request: the pruned model, and the settings.
        text: the calibration text.
        run: the run; None: a live layer.
        live: for a live layer, the data from which its page computes another target.
    """

    name: str
    model: ModelFacts
    request: PruneSettings
    text: TextFacts
    run: Run | None = field(default=None, repr=False, compare=False)
    live: object = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, run: Run) -> "ComparedSource":
        """Read the origin from a run."""
        return cls(run.name, run.model, run.request, run.text, run)


class LiveLayers:
    """Live layers that readers added to the comparison: the last MAX_LIVE_LAYERS of all readers, in memory."""

    def __init__(self) -> None:
        """Begin without layers."""
        self._layers: OrderedDict[str, tuple[ComparedSource, LayerView]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, view: LayerView, method: str, source: ComparedSource) -> Pick:
        """Store one allocation of a view, and uniform; the same allocation gets the same pick.

        Large and computed parts are left out: the score, the search, the prices. A mask is stored up to
        MAX_LIVE_MASK_WEIGHTS.
        """
        shown = view.showing({UNIFORM, method})
        own = shown.own
        name = f"{LIVE}{abs(hash((source.request, source.model, own.counts.tobytes()))):016x}"[:24]
        masks: dict[str, Callable[[], np.ndarray]] = {}
        if method in view.masks and view.rows * view.columns <= MAX_LIVE_MASK_WEIGHTS:
            packed = np.packbits(view.masks[method](), axis=1)
            masks[method] = lambda: np.unpackbits(packed, axis=1, count=view.columns).astype(bool)
        light = dataclasses.replace(shown, key=name, masks=masks, score=None, search=None, prices=None)
        with self._lock:
            cached(self._layers, name, lambda: (source, light), MAX_LIVE_LAYERS)
        return Pick(name, view.name)

    def get(self, name: str) -> tuple[ComparedSource, LayerView]:
        """Return a stored layer.

        Raises:
            RunError: the layer was never added, or too long ago.
        """
        with self._lock:
            if name in self._layers:
                self._layers.move_to_end(name)
                return self._layers[name]
        raise RunError(
            "A layer that was added from the Layer page is no longer in the server's memory. Add it again; to have it "
            "for longer, keep it as a run."
        )


LIVE_LAYERS = LiveLayers()


@dataclass(frozen=True, eq=False)
class Compared:
    """The contents of a slot.

    Attributes:
        slot: 0 for A.
        pick: the run and the layer.
        source: the origin of the layer.
        views: the layer as it was pruned, or under uniform sparsity; for a kind of layers, one view for each block.
        label: the slot's label in every legend: its letter, and what differs from the other slots.
    """

    slot: int
    pick: Pick
    source: ComparedSource
    views: tuple[LayerView, ...]
    label: str = ""

    @property
    def key(self) -> Hashable:
        """A key that is equal for slots that look the same."""
        return self.slot, str(self.pick), self.label, tuple(view.key for view in self.views)

    @property
    def letter(self) -> str:
        """The slot's letter, A to H."""
        return LETTERS[self.slot]

    @property
    def single(self) -> LayerView | None:
        """Return the only layer; None if the pick holds several."""
        return self.views[0] if len(self.views) == 1 else None

    @property
    def first(self) -> LayerView:
        """Return the view of the first layer."""
        return self.views[0]

    @property
    def allocation(self) -> RowAllocation:
        """Row sparsities of the first layer, under the slot's label."""
        return dataclasses.replace(self.first.own, label=self.label or self.letter)

    @property
    def rows_key(self) -> tuple:
        """A key that is equal for slots with the same rows: the same layer of the same weights."""
        return self.source.model.weights, self.pick.layer

    @property
    def sparsity(self) -> float:
        """Share of pruned weights over all layers."""
        pruned = sum(view.pruned for view in self.views)
        return pruned / sum(view.rows * view.columns for view in self.views)


def read_slot(store: RunStore, slot: int, pick: Pick) -> Compared:
    """Read the contents of a slot.

    Raises:
        RunError: the run or layer does not exist, or a file is damaged.
    """
    if pick.run_id.startswith(LIVE):
        source, view = LIVE_LAYERS.get(pick.run_id)
        views = [view]
    else:
        run = store.open(pick.run_id)
        names = layers_of(pick, run.layers)
        if not names:
            raise RunError(
                f"The run {run.name[:60]!r} has no layer {pick.layer[:60]!r}. Choose one of its own."
            )
        source, views = ComparedSource.of(run), [store.view(run, name) for name in names]
    if pick.uniform:
        views = [view.showing({UNIFORM}) for view in views]
    return Compared(slot, pick, source, tuple(views))


def labelled(compared: Sequence[Compared]) -> list[Compared]:
    """Label each slot by its letter and what differs: model, layer, method, target; then seed, text or run."""
    columns = [values for values in _identity(compared) if len(set(values)) > 1]
    for values in (
        [f"seed {each.source.request.seed}" for each in compared],
        [each.source.request.corpus for each in compared],
        [each.source.name for each in compared],
    ):
        if len(set(zip(*columns, strict=True))) < len(compared) and len(set(values)) > 1:
            columns.append(values)
    differing = list(zip(*columns, strict=True)) if columns else [()] * len(compared)
    return [
        dataclasses.replace(
            each, label=" · ".join([each.letter, " ".join(parts)] if parts else [each.letter])
        )
        for each, parts in zip(compared, differing, strict=True)
    ]


def in_common(compared: Sequence[Compared]) -> str:
    """Return what all slots share and their labels leave out: layer, method, target and model; "": nothing."""
    layers = [each.pick.layer for each in compared]
    if len(set(layers)) > 1:
        layers = [every_expert(layer) for layer in layers]
    model, _, method, target = _identity(compared)
    return " · ".join(
        values[0] for values in (layers, method, target, model) if len(set(values)) == 1 and values[0]
    )


def _identity(compared: Sequence[Compared]) -> tuple[list[str], ...]:
    models = [each.source.model.title for each in compared]
    tails = [
        re.sub(r"^[\w.-]+/(?=[\w.-]+$)", "", title) for title in models
    ]  # of a Hub id, without the owner
    return (
        tails if len(set(tails)) == len(set(models)) > 1 else models,
        _layer_names([each.pick.layer for each in compared]),
        [_method(each) for each in compared],
        _percents([each.sparsity for each in compared]),
    )


def _layer_names(layers: Sequence[str]) -> list[str]:
    """Name the picked layers; experts of one block by their numbers."""
    if len({every_expert(layer) for layer in layers}) == 1 and every_expert(layers[0]):
        return [f"expert {expert_number(layer)}" for layer in layers]
    return [re.sub(rf"^{re.escape(EVERY_BLOCK)}", "all ", layer).replace("*", "all") for layer in layers]


def _method(compared: Compared) -> str:
    """Name the method of a slot; for several layers the run's, which leaves experts of few tokens unpruned."""
    labels = [view.own.label for view in compared.views]
    own = METHOD_LABELS.get(compared.source.request.allocation, labels[0])
    return own if own in labels else labels[0]


def _percents(shares: Sequence[float]) -> list[str]:
    """Write shares with enough digits to tell apart those that differ by more than a thousandth."""
    distinct = len({round(share, 3) for share in shares})
    for digits in (0, 1):
        texts = [f"{share:.{digits}%}" for share in shares]
        if len(set(texts)) >= distinct:
            break
    return texts


def comparison(first: Compared, second: Compared) -> AllocationComparison:
    """Return the distances of two slots; rows are paired only if both slots have the same rows."""
    why_unpaired = None
    if first.rows_key != second.rows_key:
        what = "layers" if first.rows_key[0] == second.rows_key[0] else "models"
        why_unpaired = f"they are rows of two {what}: row 5 of one has nothing to do with row 5 of the other"
    key = first.key, second.key
    return _comparisons.get(
        key, lambda: compare_allocations(first.allocation, second.allocation, why_unpaired=why_unpaired)
    )


def compare_masks(first: Compared, second: Compared) -> MaskAgreement:
    """Compare the masks of two slots of one layer.

    Raises:
        RunError: a slot has no mask, because the run was kept without masks or the slot shows uniform sparsity.
    """
    masks = []
    for each in (first, second):
        mask = each.first.masks.get(each.first.own.method)
        if mask is None:
            raise RunError(
                f"{each.letter} has no mask: a run keeps that of its own method, and a large live layer none."
            )
        masks.append(mask())
    return mask_agreement(*masks)


@dataclass(frozen=True)
class Setting:
    """A line of the table of settings: its name, and a value for each slot."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Return whether the values differ."""
        return len(set(self.values)) > 1


def settings(compared: Sequence[Compared]) -> list[Setting]:
    """List all settings of the compared layers, those that differ first."""
    lines = [
        Setting("run", tuple(each.source.name for each in compared)),
        Setting("model", tuple(each.source.model.title for each in compared)),
        Setting("layer", tuple(each.pick.layer for each in compared)),
        Setting("rows × weights", tuple(_shape(each) for each in compared)),
        Setting("rows set by", tuple(each.first.own.label for each in compared)),
        Setting("layer sparsity", tuple(percent(each.sparsity, 2) for each in compared)),
        Setting("layer quality", tuple(map(_quality, compared))),
        Setting("learning rate η", tuple(map(_rate, compared))),
    ]
    requests = [each.source.request for each in compared]
    idle = [idle_options(request) for request in requests]
    for name, each in options(PruneSettings).items():
        values = (
            NOT_USED if name in unused else each.text(getattr(request, name))
            for request, unused in zip(requests, idle, strict=True)
        )
        lines.append(Setting(each.label, tuple(values)))
    lines.append(
        Setting(
            "calibration tokens",
            tuple(str(each.source.text.tokens) for each in compared),
        )
    )
    used = [line for line in lines if any(value not in ("–", NOT_USED) for value in line.values)]
    return sorted(used, key=lambda line: not line.differs)


def _quality(each: Compared) -> str:
    if (view := each.single) is None or view.own.method not in view.qualities:
        return "–"
    return number(view.qualities[view.own.method], 5)


def _rate(each: Compared) -> str:
    if (view := each.single) is None or view.search is None or view.own.method != "trim":
        return "–"
    return "0, as uniform" if (rate := view.search.learning_rate) is None else change(rate)


def _shape(each: Compared) -> str:
    return f"{each.first.rows:,} × {each.first.columns:,}"

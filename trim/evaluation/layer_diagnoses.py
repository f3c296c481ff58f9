"""Measure single layers of a run on their inputs during pruning, and store the result with the run."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trim.cache import text_sha256
from trim.calibration.block_states import BlockStates, embedded_text
from trim.calibration.calibration import Calibration
from trim.calibration.capture import LayerSample
from trim.calibration.corpora import require_text
from trim.calibration.input_listener import InputListener
from trim.errors import CorpusError, SettingsError, SparsityError
from trim.evaluation.agreement import allocated_mask
from trim.evaluation.diagnose_text import LAYER_DIAGNOSES
from trim.evaluation.row_signal import resampled, row_signal
from trim.evaluation.workbench import Workbench, model_source, pruned_layers
from trim.methods.agreement import mask_agreement
from trim.methods.choices import ALLOCATIONS, SCORES
from trim.methods.counts import total_count
from trim.models.loaded import Model
from trim.names import block_index, select_layers
from trim.progress import Meter, ProgressListener
from trim.pruning.source import corpus_windows
from trim.runs.diagnosis_files import agreement_to_json, signal_to_json, update_layer_diagnoses
from trim.runs.diagnosis_shapes import Drawn, MaskAgreementJson, TargetCounts
from trim.runs.folder import Run, open_run
from trim.runs.json_files import MAX_JSON_BYTES, incomplete
from trim.runs.places import require_storable
from trim.runs.record import LayerRecord
from trim.seeds import following_seeds

TARGETS = np.arange(30, 95, 5) / 100
DRAWS = 12
MAX_VECTORS = 100_000
_BYTES_OF_ROW = 40  # in the file of a layer, for each draw: a count and a Gini coefficient


def diagnose_layers(
    run: Run | str | Path,
    what: str,
    layers: Sequence[str],
    *,
    draws: int = DRAWS,
    windows: bool = False,
    texts: Sequence[str] = (),
    vectors: int | None = None,
    workbench: Workbench | None = None,
    progress: ProgressListener | None = None,
) -> Run:
    """Measure one of `LAYER_DIAGNOSES` for some layers of a run, and write it into the run's folder `diagnoses`.

        run = trim.diagnose_layers("runs/first", "signal", ["15.mlp.gate_proj"])

    Each layer receives the run's calibration text through the pruned blocks before its own and its dense block, as
    when the run pruned it. The inputs differ from the run's if it recalculated inputs within a block, or fitted
    weights to the outputs of the dense model.

    Args:
        run: a complete run with masks, or a layer kept from the app.
        what: "signal": how certain TRIM's learned row sparsities are (`row_signal`). "agreement": the agreement of the
            run's mask with those of the library's methods at equal sparsity (`mask_agreement`). "targets": the rows
            at targets from 30 to 90%.
        layers: names or shell patterns.
        draws: number of draws for "signal".
        windows: whether "signal" reads other windows of the text in each draw; otherwise it resamples input vectors.
        texts: further texts for "signal", as for `load_corpus`; each draw reads the run's own text or one of these.
        vectors: number of input vectors that "signal" resamples; None: as many as there are.
        workbench: caches the model for further calls; None: a new one for this call.
        progress: called at each step; an exception from it ends the work, and finished layers are kept.

    Returns:
        The run.

    Raises:
        SettingsError: the diagnosis does not exist, or the draws cannot be measured or stored.
        RunError: the run is not complete or has no masks, or its folder cannot be written.
        ModelError: its model is missing, or has changed since.
        CorpusError: its text is missing, or has changed since.
        LayerNotFoundError: the run did not prune such a layer.
    """
    if what not in LAYER_DIAGNOSES:
        raise SettingsError(f"a diagnosis of layers is one of {', '.join(LAYER_DIAGNOSES)}, not {what!r}")
    run = run if isinstance(run, Run) else open_run(run)
    chosen = _select(run, layers)
    require_storable(run.path)
    if what == "signal":
        _require_draws(run, chosen, draws, vectors, texts)
    for record in (run.layer(name) for name in chosen):
        if not record.pruned:
            raise SettingsError(f"{record.name} has lost no weight in {run.path}; choose other layers")
        if what == "agreement":
            record.keep()
    workbench = workbench or Workbench(progress=progress)
    model = workbench.model(model_source(run, layer=True))
    read: list[tuple[str | None, int]] = [(None, run.request.seed)]
    if what == "signal" and texts:
        read += [(text, run.request.seed) for text in texts]
    elif what == "signal" and windows:
        read = [(None, seed) for seed in following_seeds(run.request.seed, draws)]
    samples = [
        run_samples(model, run, chosen, corpus=text, seed=seed, progress=progress) for text, seed in read
    ]
    meter = Meter(progress, of=len(chosen))
    for done, name in enumerate(chosen):
        meter.report(f"Measuring {name}", done)
        if what == "agreement":
            update_layer_diagnoses(run.path, name, {"agreement": _agreement(run, samples[0][name])})
        elif what == "targets":
            update_layer_diagnoses(run.path, name, {"targets": _targets(run, samples[0][name], progress)})
        else:
            own = samples[0][name]
            again = len(read) > 1
            signal = row_signal(
                [each[name] for each in samples]
                if again
                else resampled(own, draws, vectors=vectors, seed=run.request.seed),
                run.request.search_settings(run.numbers(name)["budget"]),
                score=run.numbers(name)["score"],
                draws=len(read) if again else draws,
                progress=progress,
            )
            if texts:
                signal = replace(signal, titles=(run.request.corpus, *texts))
            drawn: Drawn = "texts" if texts else "windows" if windows else "vectors"
            used = own.inputs.shape[1] if again or vectors is None else vectors
            stored = signal_to_json(signal, own.weight.shape[1], drawn, vectors=used)
            update_layer_diagnoses(run.path, name, {"signal": stored})
    meter.report("Every layer is measured", len(chosen))
    return open_run(run.path)


def _require_draws(
    run: Run, layers: Sequence[str], draws: int, vectors: int | None, texts: Sequence[str]
) -> None:
    """Require draws that can be measured, and stored with the run.

    Raises:
        SettingsError: too few or too many draws, no vectors, or the run's own text among the others.
        CorpusError: a text does not exist.
    """
    draws = len(texts) + 1 if texts else draws
    if draws < 2:
        raise SettingsError(f"uncertainty needs two draws or more, not {draws}")
    rows, name = max((run.numbers(name)["rows"], name) for name in layers)
    if draws > (most := MAX_JSON_BYTES // (_BYTES_OF_ROW * rows)):
        raise SettingsError(
            f"of the {rows:,} rows of {name} at most {most:,} draws can be stored, not {draws:,}; take fewer"
        )
    if vectors is not None and not 1 <= vectors <= MAX_VECTORS:
        raise SettingsError(f"a draw has between 1 and {MAX_VECTORS:,} input vectors, not {vectors:,}")
    for text in texts:
        require_text(text)
        if text == run.request.corpus:
            raise SettingsError(f"{text} is the run's own text, which is read anyway; name other texts")


def run_samples(
    model: Model,
    run: Run,
    layers: Sequence[str],
    *,
    corpus: str | None = None,
    seed: int | None = None,
    progress: ProgressListener | None = None,
) -> dict[str, LayerSample]:
    """Capture the inputs of layers of a run, after the pruned blocks before theirs and in their own dense block.

        sample = trim.run_samples(model, run, ["15.mlp.gate_proj"])["15.mlp.gate_proj"]

    Args:
        model: the dense model; its weights are restored on return.
        run: a complete run with masks; for a layer kept from the app all blocks are dense.
        layers: names or shell patterns.
        corpus: another text; None: the run's.
        seed: another seed, which draws other windows of the text; None: the run's.
        progress: called at each block.

    Raises:
        LayerNotFoundError: the run did not prune such a layer.
        RunError: the run has no masks, or is not complete.
        CorpusError: its text is missing, or has changed since.
    """
    chosen, request = _select(run, layers), run.request
    if run.text.given and corpus is None:
        raise CorpusError(
            f"{run.path} was pruned with tokens of its own, which it does not keep; prune with a corpus or a text file"
        )
    own_seed = request.seed if seed is None else seed
    tokens = corpus_windows(request, model.tokenizer, progress, corpus=corpus, seed=own_seed)
    if corpus is None and own_seed == request.seed and text_sha256(tokens) != run.text.sha256:
        raise CorpusError(
            f"{request.corpus} has changed since {run.path} was pruned on it; restore it, or prune again"
        )
    calibration = Calibration.of(
        tokens,
        vectors_per_sequence=request.vectors_per_sequence,
        input_vectors=request.input_vectors,
        seed=own_seed,
    )
    last = max(map(block_index, chosen))
    samples: dict[str, LayerSample] = {}
    meter = Meter(progress, of=last + 1)
    batch = run.compute.batch
    with embedded_text(model, calibration, slots=1, batch=batch, needs="alongside a block") as states:
        for index, block in enumerate(model.blocks[: last + 1]):
            meter.report(f"Reading the calibration text: block {index}", index)
            own = [name for name in run.layers if block_index(name) == index]
            if wanted := [name for name in own if name in chosen]:
                samples |= _receive(model, states, index, wanted)
            if index < last:
                with pruned_layers(model, run, own):
                    states.propagate(index, block, 0, 0)
    meter.report("The calibration text is read", last + 1)
    return samples


def _select(run: Run, layers: Sequence[str]) -> list[str]:
    if not run.complete:
        raise incomplete(run.path)
    return select_layers(layers, run.layers)


def _receive(model: Model, states: BlockStates, index: int, names: list[str]) -> dict[str, LayerSample]:
    """Capture the inputs of layers in one dense block, from the hidden states before it."""
    layers = {name: model.layers[name] for name in names}
    whole = InputListener(states.calibration, layers)

    def listen(part: slice) -> None:
        one = InputListener(states.calibration, layers)
        with one.listening(part):
            states.replay(index, model.blocks[index], part, states.read(0, part))
        whole.add(one)  # only complete parts: one that runs out of memory is repeated in smaller ones

    states.in_batches(listen)
    return {
        name: LayerSample(name, layers[name].weight.detach(), each.inputs, each.input_norm)
        for name, each in whole.received().items()
    }


def _agreement(run: Run, sample: LayerSample) -> list[MaskAgreementJson]:
    """Compare the run's mask of a layer with that of every score and allocation, at equal sparsity."""
    record = run.layer(sample.name)
    own = record.keep()
    settings = run.request.search_settings(min(record.sparsity, run.request.row_cap))
    agreements: list[MaskAgreementJson] = []
    for score in SCORES:
        layer = sample.scored(score, _sensitivity(record))
        for allocation in ALLOCATIONS:
            with contextlib.suppress(SparsityError):
                mask = allocated_mask(layer, allocation, record.pruned, settings)
                agreements.append(
                    agreement_to_json(mask_agreement(own, mask.cpu().numpy()), score, allocation)
                )
    return agreements


def _targets(run: Run, sample: LayerSample, progress: ProgressListener | None) -> list[TargetCounts]:
    """Allocate the rows of a layer by TRIM and by the optimum, at each of `TARGETS` below the row cap."""
    request, record = run.request, run.layer(sample.name, mask=False)
    layer = sample.scored(record.score, _sensitivity(record))
    meter = Meter(progress, of=len(TARGETS))
    targets: list[float] = []
    counts: dict[str, list[list[int]]] = {"trim": [], "optimal": []}
    for done, target in enumerate(np.extract(request.row_cap >= TARGETS, TARGETS)):
        meter.report(f"Searching at {target:.0%}", done)
        settings = request.search_settings(float(target))
        try:
            total = total_count(float(target), record.rows, record.columns, settings.max_row_sparsity)
            allocated = {method: ALLOCATIONS[method](layer, total, settings).counts for method in counts}
        except SparsityError:  # not reachable under the cap with whole numbers of weights
            break
        targets.append(float(target))
        for method, each in allocated.items():
            counts[method].append(each.tolist())
    return [{"method": method, "targets": targets, "counts": each} for method, each in counts.items()]


def _sensitivity(record: LayerRecord) -> Tensor | None:
    return None if record.sensitivity is None else torch.from_numpy(record.sensitivity)

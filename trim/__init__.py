"""TRIM Lab's library: row-wise pruning of language models, one layer or a whole model at a time.

Each public name is imported from its module when it is first asked for (PEP 562), so that `import trim` is instant and
loads torch only for what computes.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trim.calibration.capture import LayerSample, capture
    from trim.calibration.corpora import load_corpus
    from trim.calibration.sensitivity import sensitivity
    from trim.errors import (
        CacheError,
        CacheWarning,
        CorpusError,
        LayerNotFoundError,
        ModelError,
        NonFiniteError,
        NotEnoughMemoryError,
        RunError,
        RunLockedError,
        SettingsError,
        ShapeError,
        SparsityError,
        TrimError,
    )
    from trim.evaluation.agreement import Agreement, agreements, method_masks
    from trim.evaluation.block_errors import BlockError, block_errors
    from trim.evaluation.diagnoses import compare_tokens, diagnose
    from trim.evaluation.evaluate import Evaluation, evaluate
    from trim.evaluation.generation import continue_prompt
    from trim.evaluation.layer_costs import LayerCost, LayerCosts, layer_costs
    from trim.evaluation.layer_diagnoses import diagnose_layers, run_samples
    from trim.evaluation.perplexity import Perplexity, perplexity, token_losses
    from trim.evaluation.row_signal import resampled, row_signal
    from trim.evaluation.settings import EvaluationText, Sampling
    from trim.evaluation.solved_layer import SolvedLayer, solve_layer
    from trim.evaluation.workbench import Workbench
    from trim.evaluation.xray import Xray, xray
    from trim.evaluation.xray_layer import LayerXray
    from trim.evaluation.zero_shot import TaskResult, zero_shot
    from trim.methods.agreement import MaskAgreement, mask_agreement
    from trim.methods.choices import DIRECT_QUALITIES, LAYER_QUALITIES, ROW_QUALITIES, SCORES
    from trim.methods.counts import project_counts, total_count, uniform_counts
    from trim.methods.masks import apply_mask, keep_mask
    from trim.methods.optimal import lower_hull, optimal_counts
    from trim.methods.quality import layer_quality, row_quality
    from trim.methods.retention import RetentionCurves
    from trim.methods.scores import magnitude_score, wanda_score
    from trim.methods.search import full_trace, search
    from trim.methods.search_settings import SearchSettings
    from trim.methods.search_types import SearchResult, SearchTrace
    from trim.methods.signal import RowSignal
    from trim.methods.sweep import retention_curves
    from trim.models.loaded import Model, ModelDescription, describe_model, load_model
    from trim.pruning.export import apply_run, export
    from trim.pruning.prune import prune, resume
    from trim.recovery.recover import recover, resume_recovery
    from trim.runs.folder import Run, list_runs, open_run
    from trim.runs.published import as_published
    from trim.runs.recover_settings import RecoverSettings
    from trim.runs.recovery import Recovery, list_recoveries, open_recovery
    from trim.runs.settings import PruneSettings
    from trim.sweeps.folder import Sweep, create_sweep, list_sweeps, open_sweep
    from trim.sweeps.run import run_sweep
    from trim.sweeps.settings import SweepSettings

__version__ = "0.1.0"

# What notebooks reach as trim.NAME, by module. The imports above say the same to type checkers; a test compares them.
_NAMES_OF = {
    "calibration.capture": "LayerSample capture",
    "calibration.corpora": "load_corpus",
    "calibration.sensitivity": "sensitivity",
    "errors": "CacheError CacheWarning CorpusError LayerNotFoundError ModelError NonFiniteError NotEnoughMemoryError "
    "RunError RunLockedError SettingsError ShapeError SparsityError TrimError",
    "evaluation.agreement": "Agreement agreements method_masks",
    "evaluation.block_errors": "BlockError block_errors",
    "evaluation.diagnoses": "compare_tokens diagnose",
    "evaluation.evaluate": "Evaluation evaluate",
    "evaluation.generation": "continue_prompt",
    "evaluation.layer_costs": "LayerCost LayerCosts layer_costs",
    "evaluation.layer_diagnoses": "diagnose_layers run_samples",
    "evaluation.perplexity": "Perplexity perplexity token_losses",
    "evaluation.row_signal": "resampled row_signal",
    "evaluation.settings": "EvaluationText Sampling",
    "evaluation.solved_layer": "SolvedLayer solve_layer",
    "evaluation.workbench": "Workbench",
    "evaluation.xray": "Xray xray",
    "evaluation.xray_layer": "LayerXray",
    "evaluation.zero_shot": "TaskResult zero_shot",
    "methods.agreement": "MaskAgreement mask_agreement",
    "methods.choices": "DIRECT_QUALITIES LAYER_QUALITIES ROW_QUALITIES SCORES",
    "methods.counts": "project_counts total_count uniform_counts",
    "methods.masks": "apply_mask keep_mask",
    "methods.optimal": "lower_hull optimal_counts",
    "methods.quality": "layer_quality row_quality",
    "methods.retention": "RetentionCurves",
    "methods.scores": "magnitude_score wanda_score",
    "methods.search": "full_trace search",
    "methods.search_settings": "SearchSettings",
    "methods.search_types": "SearchResult SearchTrace",
    "methods.signal": "RowSignal",
    "methods.sweep": "retention_curves",
    "models.loaded": "Model ModelDescription describe_model load_model",
    "pruning.export": "apply_run export",
    "pruning.prune": "prune resume",
    "recovery.recover": "recover resume_recovery",
    "runs.folder": "Run list_runs open_run",
    "runs.published": "as_published",
    "runs.recover_settings": "RecoverSettings",
    "runs.recovery": "Recovery list_recoveries open_recovery",
    "runs.settings": "PruneSettings",
    "sweeps.folder": "Sweep create_sweep list_sweeps open_sweep",
    "sweeps.run": "run_sweep",
    "sweeps.settings": "SweepSettings",
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> object:
    """Import what is asked for; afterwards it is an ordinary attribute."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'trim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"trim.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})

"""TRIM Lab's library: row-wise pruning of language models, one layer or a whole model at a time.

Each public name is imported from its module when it is first used (PEP 562), so that `import trim` is instant and
loads torch only for what computes.
"""

import ast
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what notebooks reach as trim.NAME
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


# The module of each public name, read from the imports above: names are declared once.
with open(__file__, encoding="utf-8") as _own:
    _MODULE_OF = {
        alias.name: str(each.module)
        for each in ast.walk(ast.parse(_own.read()))
        if isinstance(each, ast.ImportFrom) and str(each.module).startswith("trim.")
        for alias in each.names
    }
__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name; afterwards it is an ordinary attribute."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'trim' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})

"""TRIM Lab's library: row-wise pruning of language models, one layer or a whole model at a time."""

from trim.calibration.capture import LayerSample, capture
from trim.calibration.corpora import load_corpus
from trim.calibration.sensitivity_cache import sensitivity
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
from trim.evaluation.evaluate import Evaluation, evaluate
from trim.evaluation.generation import Sampling, continue_prompt
from trim.evaluation.perplexity import Perplexity, perplexity
from trim.evaluation.workbench import EvaluationText, Workbench
from trim.evaluation.zero_shot import TaskResult, zero_shot
from trim.methods.masks import apply_mask, keep_mask, project_counts, uniform_counts
from trim.methods.optimal import lower_hull, optimal_counts
from trim.methods.quality import DIRECT_QUALITIES, LAYER_QUALITIES, ROW_QUALITIES, layer_quality, row_quality
from trim.methods.retention import RetentionCurves, retention_curves
from trim.methods.scores import SCORES, magnitude_score, wanda_score
from trim.methods.search import SearchResult, SearchSettings, SearchTrace, full_trace, search
from trim.models.loaded import Model, ModelDescription, describe_model, load_model
from trim.pruning.export import apply_run, export
from trim.pruning.prune import prune, resume
from trim.runs.folder import Run, list_runs, open_run
from trim.runs.settings import PruneSettings
from trim.sweeps.folder import Sweep, create_sweep, list_sweeps, open_sweep
from trim.sweeps.run import run_sweep
from trim.sweeps.settings import SweepSettings

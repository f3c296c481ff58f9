"""TRIM Lab's library: row-wise pruning of language models, one layer or a whole model at a time."""

from trim.capture import LayerSample, capture
from trim.corpora import load_corpus
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
from trim.evaluation import Evaluation, evaluate
from trim.export import apply_run, export
from trim.generation import Sampling, continue_prompt
from trim.masks import apply_mask, keep_mask, project_counts, uniform_counts
from trim.models import Model, ModelDescription, describe_model, load_model
from trim.optimal import lower_hull, optimal_counts
from trim.perplexity import Perplexity, perplexity
from trim.prune import prune, resume
from trim.prune_settings import PruneSettings
from trim.quality import DIRECT_QUALITIES, LAYER_QUALITIES, ROW_QUALITIES, layer_quality, row_quality
from trim.retention import RetentionCurves, retention_curves
from trim.runs import Run, list_runs, open_run
from trim.scores import SCORES, magnitude_score, wanda_score
from trim.search import SearchResult, SearchSettings, SearchTrace, full_trace, search
from trim.sensitivity_cache import sensitivity
from trim.sweep import Sweep, create_sweep, list_sweeps, open_sweep
from trim.sweep_run import run_sweep
from trim.sweep_settings import SweepSettings
from trim.workbench import EvaluationText, Workbench
from trim.zero_shot import TaskResult, zero_shot

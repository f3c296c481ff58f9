"""The commands that make a run again."""

import shlex

from app.services.runs.commands import arguments
from trim.errors import SettingsError
from trim.runs.folder import Run
from trim.runs.settings import PruneSettings


def reproduce(run: Run) -> str:
    """For a terminal: prune, and measure what was measured. Values that are the default are left out."""
    try:
        settings = PruneSettings.from_json(run.settings.get("request") or {})
    except (SettingsError, TypeError) as error:
        return f"# {error}"
    out = f"runs/{run.id}-again"
    lines = ["python -m trim prune " + shlex.join([*arguments(settings), "--out", out])]
    if run.settings.get("text", {}).get("given"):
        lines.insert(0, "# with the text that was handed over as tokens: trim.prune(…, tokens=…)")
    for entry in run.metrics.get("perplexities", []):
        text = ["--corpus", str(entry.get("corpus")), "--windows", str(entry.get("windows"))]
        text += ["--length", str(entry.get("length")), *(["--whole-text"] if entry.get("whole") else [])]
        lines.append(shlex.join(["python", "-m", "trim", "evaluate", out, *text]))
    return "\n".join(lines)

"""The table of sweeps and their progress."""

from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import streamlit as st

from app.services.runs.store import StoredSweep
from app.services.server.faults import explain
from app.ui.common.text import literal
from diagnostics.format import counted, percent
from trim.names import one_line
from trim.sweeps.folder import Sweep


def sweep_table(sweeps: Sequence[StoredSweep]) -> None:
    """Show one line for each sweep, if there are any."""
    if not sweeps:
        return
    st.subheader("Sweeps")
    st.caption(
        "A sweep prunes one model in many ways and measures the perplexity of each: `python -m trim sweep --help`. "
        "Their curves are on the Compare page."
    )
    lines, problems = [], []
    for entry in sweeps:
        problem = entry.problem
        try:
            lines.append(_line(entry))
        except Exception as error:  # a bad sweep must not hide the others
            lines.append(_unreadable(entry))
            problem = explain(error)
        if problem:
            problems.append(f"{literal(entry.id)}: {literal(problem)}")
    st.dataframe(
        {key: [line[key] for line in lines] for key in lines[0]},
        hide_index=True,
        alt=f"Table of {counted(len(lines), 'sweep')}",
    )
    for problem in problems:
        st.error(problem, icon=":material/broken_image:")


def _unreadable(entry: StoredSweep) -> dict[str, str]:
    nothing = dict.fromkeys(("Model", "Model sparsities", "Created (UTC)"), "")
    return {"Name": entry.id, "Cells": "cannot be read"} | nothing


_lines: WeakKeyDictionary[StoredSweep, dict[str, str]] = WeakKeyDictionary()


def _line(entry: StoredSweep) -> dict[str, str]:
    """Return the line of a stored sweep, cached until a file of the sweep changes."""
    if entry not in _lines:
        _lines[entry] = _unreadable(entry) if entry.sweep is None else _described(entry, entry.sweep)
    return _lines[entry]


def _described(entry: StoredSweep, sweep: Sweep) -> dict[str, str]:
    outcomes = sweep.outcomes()
    done = sum(outcome.done for outcome in outcomes)
    targets = sorted({cell.settings.target for cell in sweep.cells.values() if cell.settings.target})
    return {
        "Name": sweep.name,
        "Cells": f"{done} of {len(outcomes)} measured" + (", came with the app" if entry.shipped else ""),
        "Model": one_line(Path(sweep.settings.model).name),
        "Model sparsities": ", ".join(percent(target, 0) for target in targets),
        "Created (UTC)": sweep.created[:16].replace("T", " "),
    }

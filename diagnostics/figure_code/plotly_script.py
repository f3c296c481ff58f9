"""A figure as Plotly code."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figure_code.data import SHORT, ScriptData, array_of, trace_names


def plotly_code(figure: go.Figure) -> tuple[str, dict[str, np.ndarray]]:
    """Write a figure as Plotly code, which gives the very same figure, and the arrays of its `data.npz`.

    The layout is next to it in `layout.json`.
    """
    data, lines = ScriptData(), []
    for trace, name in zip(figure.data, trace_names(figure), strict=True):
        content = trace.to_plotly_json()
        kind = content.pop("type")
        arguments = ", ".join(
            f"{key}={_expression(value, f'{name}_{key}', data)}" for key, value in content.items()
        )
        lines.append(f"figure.add_{kind}({arguments})")
    code = [
        "import json",
        "from pathlib import Path",
        "",
        "import numpy as np",
        "import plotly.graph_objects as go",
        "",
        'data = np.load("data.npz")',
        'figure = go.Figure(layout=json.loads(Path("layout.json").read_text(encoding="utf-8")))',
        *lines,
        'figure.write_image("figure_plotly.pdf")  # needs the package kaleido and a Chrome; or figure.show()',
        "",
    ]
    return "\n".join(code), data.arrays


def _expression(value: object, name: str, data: ScriptData) -> str:
    if isinstance(value, dict):
        inside = ", ".join(
            f"{key!r}: {_expression(item, f'{name}_{key}', data)}" for key, item in value.items()
        )
        return "{" + inside + "}"
    if isinstance(value, np.ndarray):
        data.arrays[name] = array_of(value)
        return f'data["{name}"]'
    if (
        isinstance(value, list | tuple)
        and len(value) > SHORT
        and not any(isinstance(each, list | tuple) for each in value)
    ):
        return data.keep(name, value)
    return repr(value)

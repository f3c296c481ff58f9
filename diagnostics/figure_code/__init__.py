"""A figure as short Plotly and matplotlib scripts with its numbers, to reproduce it."""

import io
import json
import zipfile

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from diagnostics.export import arrays_npz
from diagnostics.figure_code.matplotlib_script import matplotlib_code
from diagnostics.figure_code.plotly_script import plotly_code


def figure_zip(figure: go.Figure, caption: str, numbers: bytes | None) -> bytes:
    """Return a zip that reproduces a printed figure: two scripts, their arrays, layout, caption and numbers.

    Args:
        figure: a figure from `printed`.
        caption: the caption, written unchanged.
        numbers: the table of all numbers of the chart, as CSV.
    """
    plotly, plotly_data = plotly_code(figure)
    matplotlib, matplotlib_data = matplotlib_code(figure)
    files: dict[str, str | bytes] = {
        "figure_plotly.py": plotly,
        "figure_matplotlib.py": matplotlib,
        "data.npz": arrays_npz({**plotly_data, **matplotlib_data}),
        "layout.json": json.dumps(figure.layout.to_plotly_json(), cls=PlotlyJSONEncoder, indent=1),
        "caption.txt": caption + "\n",
    }
    if numbers is not None:
        files["numbers.csv"] = numbers
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as folder:
        for name, content in files.items():
            folder.writestr(name, content)
    return packed.getvalue()

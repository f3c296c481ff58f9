"""Numbers of a view as files: CSV for a spreadsheet, NPZ for a notebook."""

import csv
import html
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from diagnostics.format import plain_text


def table_csv(columns: Mapping[str, np.ndarray]) -> bytes:
    """Return columns of equal length as UTF-8 CSV with one line of names. Floats keep every digit.

    Raises:
        ValueError: the columns differ in length.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    lengths = {name: array.shape for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise ValueError(f"the columns of a table must be lines of one length, got {lengths}")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(arrays)
    writer.writerows(zip(*(array.tolist() for array in arrays.values()), strict=True))
    return text.getvalue().encode()


def arrays_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays of any shape as a compressed NPZ without pickles.

    Raises:
        ValueError: an array could only be pickled.
    """
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which an NPZ without pickle cannot")
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **plain)
    return file.getvalue()


LEAST_HEIGHT, TOP_MARGIN = 300, 28  # pixels


CONFIG = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    "toImageButtonOptions": {"format": "svg"},
}


@dataclass(frozen=True)
class Heading:
    """A heading that begins a section; plain text."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text with its line breaks. `code`: in a monospaced font."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Rows below column names; `folded` tables open on a click on their caption."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with title and subtitle as text above it; `alt` is for readers who cannot see it."""

    figure: go.Figure
    alt: str


@dataclass(frozen=True, eq=False)
class Fold:
    """Charts that a click on the caption opens; they are not printed."""

    caption: str
    charts: tuple[Chart, ...]


Part = Heading | Paragraph | Table | Chart | Fold


# Forbid all fetches, even by text that was injected into the file.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif;
  color: #14181d; background: #fff; margin: 0 auto; max-width: 1280px; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-top: 1px solid #d5dae1; padding-top: 1.25rem;
  overflow-wrap: anywhere }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0 }
h3 + .subtitle { font-size: .9rem; margin: 0 }
p { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; max-width: 48rem }
.subtitle, caption, summary { color: #55606c }
pre { background: #f5f6f8; border: 1px solid #d5dae1; border-radius: 6px; padding: .75rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .25rem }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e9ecf0; vertical-align: top;
  overflow-wrap: anywhere }
summary { cursor: pointer }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 0 2rem }
figure { margin: 0; min-width: 0; break-inside: avoid }
.printed { width: 690px; padding: 0; font-size: 13px }
.printed h2 { margin-top: 1.25rem; padding-top: .75rem }
.printed th, .printed td { overflow-wrap: break-word }
.printed .charts { display: block }
@page { size: A4; margin: 12mm }
@media print { h2, h3, .subtitle { break-after: avoid } }
"""

# Charts are drawn for the window; paper is narrower, and a report is to have few pages.
_FIT_PAPER = """
const fit = (printed, scale) => {
  document.body.classList.toggle('printed', printed);
  for (const chart of document.querySelectorAll('.js-plotly-plot')) {
    if (!chart.clientWidth) continue; // in a closed fold
    const height = scale * chart.layout.height;
    chart.parentElement.style.height = `${height}px`;
    const width = printed ? chart.parentElement.clientWidth : null;
    Plotly.relayout(chart, { height, width, autosize: !printed });
  }
};
addEventListener('beforeprint', () => fit(true, 0.8));
addEventListener('afterprint', () => fit(false, 1 / 0.8));
"""


def report_html(title: str, subtitle: str, parts: Iterable[Part]) -> bytes:
    """Return a complete page, UTF-8, that begins with links to its headings.

    All text is escaped here; labels in figures must be escaped already, as those of `figures` are.

    Raises:
        ValueError: a row of a table is not as wide as its header.
    """
    parts = list(parts)
    headings = [part.text for part in parts if isinstance(part, Heading)]
    body = _links(headings)
    for charts, together in itertools.groupby(parts, lambda part: isinstance(part, Chart)):
        inside = "\n".join(map(_part, together))
        body += f'<div class="charts">{inside}</div>\n' if charts else f"{inside}\n"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}{_FIT_PAPER}</script>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="subtitle">{html.escape(subtitle)}</p>
{body}
</body>
</html>
"""
    return page.encode()


def _part(part: Part) -> str:
    match part:
        case Heading(text):
            return f'<h2 id="{_anchor(text)}">{html.escape(text)}</h2>'
        case Paragraph(text, code):
            return f"<pre>{html.escape(text)}</pre>" if code else f"<p>{html.escape(text)}</p>"
        case Table():
            return _table(part)
        case Chart(figure, alt):
            return _chart(figure, alt)
        case Fold(caption, charts):
            inside = "\n".join(_chart(chart.figure, chart.alt) for chart in charts)
            # A chart in a closed fold has no width yet.
            opened = "window.dispatchEvent(new Event('resize'))"
            return (
                f'<details ontoggle="{opened}"><summary>{html.escape(caption)}</summary>'
                f'<div class="charts">{inside}</div></details>'
            )
    raise TypeError(f"a report has no place for {type(part).__name__}")


def _anchor(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _links(headings: Sequence[str]) -> str:
    if len(headings) < 2:
        return ""
    links = " · ".join(f'<a href="#{_anchor(text)}">{html.escape(text)}</a>' for text in headings)
    return f'<p class="subtitle">{links}</p>\n'


def _chart(figure: go.Figure, alt: str) -> str:
    title = figure.layout.title
    heading = f"<h3>{html.escape(plain_text(title.text))}</h3>"
    if title.subtitle.text:
        heading += f'<p class="subtitle">{html.escape(plain_text(title.subtitle.text))}</p>'
    below = go.Figure(figure)
    height = max(LEAST_HEIGHT, figure.layout.height - figure.layout.margin.t + TOP_MARGIN)
    below.update_layout(title=None, margin_t=TOP_MARGIN, height=height)
    drawn = to_html(below, full_html=False, include_plotlyjs=False, config=CONFIG)
    return f'<figure>{heading}<div role="img" aria-label="{html.escape(alt)}">{drawn}</div></figure>'


def _table(table: Table) -> str:
    if any(len(row) != len(table.columns) for row in table.rows):
        raise ValueError(f"every row of {table.caption!r} needs {len(table.columns)} cells")
    head = _row("th", table.columns) if any(table.columns) else ""
    rows = "".join(_row("td", row) for row in table.rows)
    caption = html.escape(table.caption)
    if table.folded:
        inside = f'<div class="wide"><table>{head}{rows}</table></div>'
        return f"<details><summary>{caption}</summary>{inside}</details>"
    return f'<div class="wide"><table><caption>{caption}</caption>{head}{rows}</table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

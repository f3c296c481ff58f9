"""The losses of tokens: a text coloured by the loss that pruning added to each token."""

import html
from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from diagnostics.figures.diagnoses import token_scatter_figure
from diagnostics.figures.theme import PALETTES, faded
from diagnostics.format import change, number
from trim.evaluation.diagnose_text import measured_tokens, tokens_finding
from trim.runs.diagnosis_shapes import TokenDiagnosis

COST = "The text goes once through the dense and once through the pruned model."
FORMULA = r"""
$$
\Delta_t = \log p(x_t \mid x_{<t}) - \log \hat p(x_t \mid x_{<t})
$$

in nats: $p$ of the dense and $\hat p$ of the pruned model. Above 0 the pruned model predicts the token less well. The
first token of a window is given, not predicted.
"""
MAX_COLOURED_NATS = 4.0  # the loss at which colours are strongest
MAX_TOKENS_LISTED = 2000
TEXT_HEIGHT = 300


def token_card(measured: TokenDiagnosis, file_name: str) -> None:
    """Show the losses of all tokens."""

    def view() -> View:
        tokens = measured_tokens(measured)
        dense, pruned = (np.array([getattr(each, name) for each in tokens]) for name in ("dense", "pruned"))
        return View(
            token_scatter_figure(
                dense, pruned, [f"…{each.before[-30:]}[{each.text}]" for each in tokens], theme()
            ),
            tokens_finding(measured),
            FORMULA,
            "Scatter of tokens' losses",
            lambda: {
                "window": np.array([each.window for each in tokens]),
                "place": np.array([each.index for each in tokens]),
                "token": np.array([each.text for each in tokens], dtype=str),
                "dense": dense,
                "pruned": pruned,
                "added": pruned - dense,
            },
        )

    card("tokens", {"Losses": view}, file_name=file_name)


def coloured_text(measured: TokenDiagnosis, window: int) -> str:
    """Return a window as HTML: tokens that lost are brown and underlined, those that gained are teal."""
    palette = PALETTES[theme()]
    pieces = measured["pieces"][window]
    spans = [html.escape(pieces[0])]
    for text, dense, pruned in zip(
        pieces[1:], measured["dense"][window], measured["pruned"][window], strict=True
    ):
        added = float(pruned) - float(dense)
        strength = min(abs(np.nan_to_num(added, nan=MAX_COLOURED_NATS)) / MAX_COLOURED_NATS, 1.0)
        style = f"background:{faded(palette.loss if added > 0 else palette.gain, round(0.6 * strength, 2))}"
        if added > 1:
            style += f";border-bottom:2px solid {palette.loss}"
        title = f"{change(added)} nats: {number(float(dense), 2)} dense, {number(float(pruned), 2)} pruned"
        spans.append(f'<span style="{style}" title="{title}">{html.escape(text)}</span>')
    body = "".join(spans).replace("\n", "↵\n")
    return f'<div style="white-space:pre-wrap;line-height:1.7;overflow-wrap:anywhere">{body}</div>'


def token_texts(runs: Sequence[tuple[str, TokenDiagnosis]]) -> None:
    """Show a window of the text coloured for each run, side by side."""
    first = runs[0][1]
    window = 0
    if len(first["pieces"]) > 1:
        window = st.select_slider(
            "Window",
            range(len(first["pieces"])),
            format_func=lambda index: f"{index + 1}",
            key="tokens_window",
        )
    for column, (name, measured) in zip(st.columns(len(runs)), runs, strict=True):
        added = np.array(measured["pruned"][window], dtype=float) - np.array(
            measured["dense"][window], dtype=float
        )
        with column:
            st.caption(f"{literal(name)}: {change(added.mean(), 3)} nats per token in this window")
            with st.container(
                border=True, height=TEXT_HEIGHT, key=f"tokens-text-{runs.index((name, measured))}"
            ):
                st.html(coloured_text(measured, window))
    st.caption(
        "Brown and underlined: predicted worse than by the dense model; teal: better. Point at a token for its losses."
    )


def token_table(measured: TokenDiagnosis) -> None:
    """List tokens with the text before them, those that lost most first; a click on a heading sorts."""
    tokens = sorted(measured_tokens(measured), key=lambda each: -np.nan_to_num(each.difference, nan=np.inf))
    st.dataframe(
        [
            {
                "Added": each.difference,
                "Token": each.text,
                "After": f"…{each.before}",
                "Dense": each.dense,
                "Pruned": each.pruned,
                "Window": each.window + 1,
            }
            for each in tokens[:MAX_TOKENS_LISTED]
        ],
        column_config={
            **{
                name: st.column_config.NumberColumn(format="%.3f", help="nats", width=70)
                for name in ("Added", "Dense", "Pruned")
            },
            "Token": st.column_config.TextColumn(width=90),
            "After": st.column_config.TextColumn(width=150),
            "Window": st.column_config.NumberColumn(width=70),
        },
        hide_index=True,
        height=TEXT_HEIGHT,
    )


def tokens_views(shown: Sequence[tuple[str, TokenDiagnosis]], file_name: str) -> None:
    """Show all views of the first, and its text next to that of the second, if that was measured on the same text."""
    measured = shown[0][1]
    token_texts([(name, each) for name, each in shown if each["text"] == measured["text"]][:2])
    left, right = st.columns([4, 5])  # the table is not cut on a page of 1,280 pixels
    with left:
        token_card(measured, file_name)
    with right:
        token_table(measured)

"""The looks that all pages share: on a wide screen little room is left above what is seen first."""

import streamlit as st

_STYLE = """
<style>
@media (min-width: 900px) {
[data-testid=stMainBlockContainer] { padding: 0.75rem 1.5rem 2rem; }
[data-testid=stMainBlockContainer] h1 { font-size: 1.4rem; padding: 0; }
[data-testid=stHeader] { background: transparent; pointer-events: none; }
[data-testid=stHeader] * { pointer-events: none; }
[data-testid=stHeader] :is(button, a, button *, a *) { pointer-events: auto; }
}
@media (max-width: 899px) {
[data-testid=stMainBlockContainer] { padding-top: 3.5rem; }
[data-testid=stMainBlockContainer] h1 { font-size: 1.6rem; padding: 0; }
[data-testid=stButtonGroup], [data-testid=stButtonGroup] [role=radiogroup] {
  flex-wrap: wrap !important; overflow: visible; }
}
</style>
"""


def frame() -> None:
    """Give the page its looks; called once, before anything is drawn."""
    st.html(_STYLE)

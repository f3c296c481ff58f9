"""Presenter mode, asked for by `?present=1`: larger type and no side bar; on Learn slides."""

from collections.abc import Sequence

import streamlit as st

LARGER = 1.35  # what letters grow by; charts, which measure in pixels, are enlarged by `cards`
_BASE_PIXELS = 15  # baseFontSize of the theme

# All sizes of the page hang on the root's. Side bar and the buttons above the page go.
_STYLE = f"""
<style>
:root {{ font-size: {_BASE_PIXELS * LARGER:.4g}px !important; }}
[data-testid=stMainBlockContainer] {{ padding-top: 1.5rem; }}
[data-testid=stSidebar], [data-testid=stSidebarCollapsedControl], [data-testid=stHeader],
[data-testid=stExpandSidebarButton] {{ display: none; }}
</style>
"""


def presenting() -> bool:
    """Return whether the address asks for presenter mode."""
    return st.query_params.get("present") == "1"


def present() -> None:
    """Give the page a presenter's looks; called once, before the page is drawn."""
    st.html(_STYLE)


def kept() -> dict[str, str]:
    """Return what links within the app hand on of the address: presenter mode, where it is on."""
    return {"present": "1"} if presenting() else {}


def links_between(pages: Sequence[st.Page]) -> None:
    """Show a row of links to the pages, which stay in presenter mode, as there is no side bar."""
    with st.container(horizontal=True, horizontal_alignment="center", gap="small", key="presenter-pages"):
        for page in pages:
            st.page_link(page, query_params=kept())

"""Presenter mode, turned on by `?present=1`: larger type and no side bar; on Learn slides."""

from collections.abc import Sequence

import streamlit as st

LARGER = 1.35  # growth of letters; `cards` enlarges charts, which measure in pixels
_BASE_PIXELS = 15  # baseFontSize of the theme

# All sizes of the page depend on the root's. The side bar and the buttons above the page are hidden.
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
    """Apply the presenter's style; called once, before the page is drawn."""
    st.html(_STYLE)


def presenter_parameters() -> dict[str, str]:
    """Return the part of the address that links within the app pass on: presenter mode, if it is on."""
    return {"present": "1"} if presenting() else {}


def link(page: str, label: str, icon: str, *, help: str | None = None, **parameters: str) -> None:
    """Show a link to another page, which stays in presenter mode; `parameters`: what its address asks for."""
    address = parameters | presenter_parameters()
    st.page_link(f"views/{page}.py", label=label, icon=f":material/{icon}:", help=help, query_params=address)


def links_between(pages: Sequence[st.Page]) -> None:
    """Show a row of links to the pages, which stay in presenter mode, as there is no side bar."""
    with st.container(horizontal=True, horizontal_alignment="center", gap="small", key="presenter-pages"):
        for page in pages:
            st.page_link(page, query_params=presenter_parameters())

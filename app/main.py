"""The app's frame: page settings and navigation. `make app` runs it."""

from pathlib import Path

import streamlit as st

from app.services.server.memory import freeze_gc
from app.services.server.turns import PAGES
from app.ui.common.address import store_address
from app.ui.common.early import import_first_page, sweep_shipped_layer
from app.ui.common.frame import frame
from app.ui.common.open_figure import figure_closed
from app.ui.common.parts import controls_in
from app.ui.common.present import links_between, present, presenting
from app.ui.common.seminar import seminar_bar

# A picture of our own: emoji and material icons for the browser's tab would be fetched from elsewhere.
ASSETS = Path(__file__).parent / "assets"

st.set_page_config(page_title="TRIM Lab", page_icon=str(ASSETS / "icon.svg"), layout="wide")
st.logo(str(ASSETS / "wordmark.svg"), size="large", icon_image=str(ASSETS / "icon.svg"))
with PAGES.turn():
    frame()
    figure_closed()  # as all of the page runs
    controls_in(None)
    store_address()
    seminar_bar()
    if presenting():
        present()
    pages = [
        st.Page("views/layer.py", title="Layer", icon=":material/layers:", default=True),
        st.Page("views/model.py", title="Model", icon=":material/grid_on:"),
        st.Page("views/runs.py", title="Runs", icon=":material/inventory_2:"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare_arrows:"),
        st.Page("views/xray.py", title="X-ray", icon=":material/radiology:"),
        st.Page("views/learn.py", title="Learn", icon=":material/school:"),
        st.Page("views/paper.py", title="Paper", icon=":material/article:"),
    ]
    # The page of a stored layer is in the navigation only while a layer is open.
    is_stored = (st.context.url or "").rstrip("/").endswith("/stored")
    stored_layer = st.Page(
        "views/stored_layer.py",
        title="Layer of a run",
        icon=":material/layers:",
        url_path="stored",
        visibility="visible" if is_stored else "hidden",
    )
    page = st.navigation([*pages[:3], stored_layer, *pages[3:]])
    if page is pages[0]:
        import_first_page()
    try:
        page.run()
    finally:  # not before: the page need not wait for it
        if page is pages[0]:
            sweep_shipped_layer()
        freeze_gc()
    if presenting():
        links_between(pages)

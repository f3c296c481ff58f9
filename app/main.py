"""The app's frame: page settings and navigation. Run with `make app`."""

import sys
from pathlib import Path

# Streamlit puts this file's folder on the path, not the project's root.
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import streamlit as st  # noqa: E402

# A picture of our own: Streamlit fetches emoji and material icons for the browser's tab from elsewhere.
st.set_page_config(page_title="TRIM Lab", page_icon=str(HERE / "assets" / "icon.svg"), layout="wide")
page = st.navigation([st.Page("views/layer.py", title="Layer", icon=":material/layers:", default=True)])
page.run()

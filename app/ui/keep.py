"""The control that keeps what is on the page as a run."""

import streamlit as st

from app.services.keep import keep
from app.services.studies import Outcome, Study
from app.ui.present import kept
from app.ui.text import plain
from trim import TrimError


def keep_controls(study: Study, outcome: Outcome) -> None:
    """Keep this layer, its settings and its result under a name."""
    with st.popover("Keep as a run", icon=":material/bookmark_add:"):
        target = outcome.result.settings.target_sparsity
        name = st.text_input("Name", f"{study.key.layer} at {target:.0%}", max_chars=80)
        if st.button("Keep", type="primary", disabled=not name.strip()):
            try:
                folder = keep(study, outcome, name.strip())
            except (TrimError, OSError) as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.success(f"Kept in {plain(folder)}", icon=":material/check:")
                st.page_link(
                    "views/stored_layer.py",
                    label="Open what was kept",
                    icon=":material/layers:",
                    query_params={"run": folder.name, "layer": study.key.layer, **kept()},
                )

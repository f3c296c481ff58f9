"""How was this checkpoint pruned?"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import streamlit as st

from app.services.layer.keys import AgreementKey, ModelKey, SampleKey, TokensKey, XrayKey
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow, laboratory, result_or_stop
from app.ui.xray import agreement_table, layer_card, map_card
from trim.evaluation.xray_text import by_kind, findings, xray_to_json

if TYPE_CHECKING:
    from trim.evaluation.xray import Xray


def ask() -> XrayKey | None:
    """Ask for the checkpoint and its parent; None: nothing was entered yet."""
    with st.form("xray"):
        left, right = st.columns(2)
        checkpoint = left.text_input(
            "Pruned checkpoint",
            key="xray_checkpoint",
            bind="query-params",
            placeholder="a folder with safetensors, or a Hub id",
            max_chars=1000,
        )
        parent = right.text_input(
            "The model it was made from, if you have it",
            key="xray_parent",
            bind="query-params",
            placeholder="a folder, a Hub id, or demo",
            max_chars=1000,
        )
        if st.form_submit_button("X-ray it", type="primary", icon=":material/radiology:"):
            given = checkpoint.strip()
            if given:
                st.session_state["xray_asked"] = XrayKey(given, parent.strip() or None)
            else:
                st.warning("Name the checkpoint first.", icon=":material/edit:")
    return st.session_state.get("xray_asked")


def show(found: Xray, key: XrayKey) -> None:
    """Show the findings."""
    file_name = "xray-" + re.sub(r"\W+", "-", found.title)
    st.subheader(literal(found.title))
    st.markdown("\n".join(f"- {literal(sentence)}" for sentence in findings(found)))
    left, right = st.columns(2)
    with left:
        map_card(found, file_name)
    with right:
        names = [layer.name for layer in found.layers]
        widest = max(
            range(len(names)),
            key=lambda index: found.layers[index].row_zeros.std() / found.layers[index].shape[1],
        )
        chosen = st.selectbox(
            "Layer", range(len(names)), widest, format_func=names.__getitem__, key="xray_layer_of"
        )
        layer_card(found.layers[chosen], file_name)
    percent = {
        name: st.column_config.NumberColumn(format="percent")
        for name in ("Sparsity", "Lowest", "Highest", "Spread of rows")
    }
    st.dataframe(by_kind(found), column_config=percent, hide_index=True)
    st.download_button(
        "Save all numbers of the layers (JSON)",
        lambda: json.dumps(xray_to_json(found), indent=1),
        f"{file_name}.json",
        "application/json",
        icon=":material/download:",
    )
    if key.parent is not None:
        compare_masks(AgreementKey(key.checkpoint, ModelKey(key.parent), SampleKey()))
        compare_losses(
            TokensKey(key.checkpoint, ModelKey(key.parent), SampleKey(windows=4, length=256)), file_name
        )


def compare_masks(key: AgreementKey) -> None:
    """Compare the checkpoint's masks with the library's masks of the parent, on request."""
    st.subheader("Whose masks are these?")
    if st.session_state.get("xray_compared") != key:
        st.caption(
            "The parent reads a text; Wanda, TRIM and the optimal allocation prune it as far as each layer was pruned; "
            "then masks are compared."
        )
        if not st.button("Compare its masks", icon=":material/join_inner:"):
            return
        st.session_state["xray_compared"] = key
    parent = result_or_stop(laboratory().model(key.parent), key.parent, "Loading the parent")
    agreement_table(result_or_stop(laboratory().agreements(key, parent), key, "Comparing masks"))


def compare_losses(key: TokensKey, file_name: str) -> None:
    """Measure the loss of each token under the checkpoint and its parent, on request."""
    st.subheader("Which tokens suffer?")
    if st.session_state.get("xray_tokens") != key:
        st.caption("The parent and the checkpoint are loaded, and both read a text.")
        if not st.button("Compare their losses", icon=":material/match_word:"):
            return
        st.session_state["xray_tokens"] = key
    parent = result_or_stop(laboratory().model(key.parent), key.parent, "Loading the parent")
    facts = result_or_stop(laboratory().tokens(key, parent), key, "Reading the text with both")
    from app.ui.common.tokens import tokens_views

    tokens_views([("This checkpoint", facts)], file_name)


st.title("How was this model pruned?")
st.markdown(
    "Give a checkpoint that anybody pruned, by whatever tool. Its files are read tensor by tensor: zeros by layer, row "
    "and column, the pattern they follow, what packing would save. No run and no GPU is needed."
)
if presenter_only("An X-ray of a checkpoint"):
    asked = ask()
    if asked is not None:
        try:
            show(result_or_stop(laboratory().xray(asked), asked, "Reading the checkpoint"), asked)
        except NothingToShow:
            st.stop()

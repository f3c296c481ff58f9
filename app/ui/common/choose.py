"""The side bar's choices of model, text, layer and score."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

import trim
from app.services.layer.keys import FIRST_LAYER, ModelKey, SampleKey
from app.services.runs.uploads import store_text
from app.ui.common.address import Bind
from app.ui.common.segments import segments
from app.ui.common.text import literal
from trim.names import block_index

# Bound widgets show their plain values: what a widget shows is what the address holds.
TEXT_WORDS = {
    "demo": "State of the Union addresses, 1990 to 2019",
    "wikitext2": "WikiText-2, from the Hub",
    "c4": "C4 (English, one shard), from the Hub",
}
SCORE_WORDS = {
    "wanda": "Wanda: a weight's size × the norm of the input it reads",
    "magnitude": "Magnitude: a weight's size alone",
}
DTYPES = ("automatic", "float32", "bfloat16", "float16")
DEFAULT_SAMPLE = SampleKey()


def model_box(key: str, bind: Bind = None) -> str | None:
    """Show the box to choose or type a model's source."""
    return st.selectbox(
        "Model",
        ["demo"],
        key=key,
        bind=bind,
        accept_new_options=True,
        help="The demo is SmolLM2-135M. Or type a Hub id (Qwen/Qwen2.5-0.5B), a folder with safetensors, or the "
        "path of a GGUF file.",
    )


def choose_model(devices: list[str]) -> ModelKey:
    """Let the user choose any model: the demo, a Hub id, a folder or a GGUF file."""
    with st.sidebar:
        source = model_box("model", bind="query-params")
        with st.popover("Device and number type", icon=":material/memory:", width="stretch"):
            device = st.selectbox("Device", ["automatic", *devices], key="device")
            dtype = st.selectbox(
                "Number type",
                DTYPES,
                key="dtype",
                help="Automatic: float32 on the CPU, on a GPU the 16-bit type of the checkpoint.",
            )
    automatic = {"automatic": None}
    return ModelKey((source or "demo").strip(), automatic.get(device, device), automatic.get(dtype, dtype))


def choose_text() -> SampleKey:
    """Choose the calibration text, and how much of it the model reads."""
    with st.sidebar:
        corpus = text_box("text", bind="query-params")
        with st.popover("Text options", icon=":material/article:", width="stretch"):
            upload_text("text")
            with st.form("sample", border=False):
                windows = st.number_input(
                    "Windows (sequences)", 1, 4096, DEFAULT_SAMPLE.windows, key="windows", bind="query-params"
                )
                length = st.number_input(
                    "Tokens per window", 2, 32768, DEFAULT_SAMPLE.length, key="length", bind="query-params"
                )
                vectors = st.number_input(
                    "Input vectors kept per window",
                    1,
                    256,
                    DEFAULT_SAMPLE.vectors_per_sequence,
                    key="vectors",
                    bind="query-params",
                    help="The layer's output is compared on these; the Wanda norms always use every token.",
                )
                seed = st.number_input(
                    "Seed", 0, 2**31 - 1, DEFAULT_SAMPLE.seed, key="seed", bind="query-params"
                )
                bos = st.checkbox(
                    "Begin each window with BOS",
                    DEFAULT_SAMPLE.bos,
                    key="bos",
                    bind="query-params",
                    help="The tokenizer's beginning-of-text token, where it adds one. Models such as Gemma were "
                    "trained with it in every text and are useless without.",
                )
                st.form_submit_button("Read the text again with these", icon=":material/refresh:")
    return SampleKey((corpus or "demo").strip(), windows, length, vectors, seed, bos)


def text_box(key: str, bind: Bind = None) -> str | None:
    """Show the box to choose or type a calibration text."""
    texts = TEXT_WORDS | _uploaded()
    corpus = st.selectbox(
        "Calibration text",
        list(texts),
        key=key,
        bind=bind,
        accept_new_options=True,
        help="What the model reads to show which inputs its layers receive. Choose one, type the path of a .txt, "
        ".jsonl or .parquet file, or upload one below.",
    )
    if corpus in texts:
        st.caption(literal(texts[corpus]))
    return corpus


def upload_text(key: str) -> None:
    """Show the upload of a text, which the text box of this key then selects."""

    def keep() -> None:
        file = st.session_state[f"{key}_file"]
        if file is not None:
            path = str(store_text(file.name, file.getvalue()))
            _uploaded()[path] = file.name
            st.session_state[key] = path

    st.file_uploader("Your own text", ["txt", "jsonl", "parquet"], key=f"{key}_file", on_change=keep)


def _uploaded() -> dict[str, str]:
    """Return the paths and names of the texts that this session uploaded."""
    texts: dict[str, str] = st.session_state.setdefault("uploaded_texts", {})
    return texts


def default_layer(names: Sequence[str], source: str) -> tuple[int, str]:
    """Return the block and path of the layer that the page opens with.

    For the demo it is `FIRST_LAYER`; for others the middle block's gate projection, or without a gate its last layer.
    """
    if source == "demo":
        block, path = FIRST_LAYER.split(".", 1)
        return int(block), path
    middle = _blocks(names) // 2
    paths = layer_paths(names, middle)
    return middle, next((path for path in paths if path.endswith("gate_proj")), paths[-1])


def layer_paths(names: Sequence[str], block: int) -> list[str]:
    """Return the layers of a block, without the block's index."""
    return [name.split(".", 1)[1] for name in names if name.startswith(f"{block}.")]


def _blocks(names: Sequence[str]) -> int:
    return 1 + max(block_index(name) for name in names)


def choose_layer(names: Sequence[str], source: str) -> tuple[str, str]:
    """Choose one of a model's layers, and the score that ranks its weights."""
    block, path = default_layer(names, source)
    with st.sidebar:
        if _blocks(names) > 1:
            block = st.slider("Block", 0, _blocks(names) - 1, block, key="block", bind="query-params")
        paths = layer_paths(names, block)
        first = paths.index(path) if path in paths else 0
        path = st.selectbox("Layer", paths, first, key="layer", bind="query-params")
        score = segments(
            "Score",
            trim.SCORES,
            "score",
            default="wanda",
            bind="query-params",
            labelled=True,
            help="How important a weight is; pruning begins with the lowest scores.",
        )
        if meaning := SCORE_WORDS.get(score):
            st.caption(meaning)
    return f"{block}.{path}", score

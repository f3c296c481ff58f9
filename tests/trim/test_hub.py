"""Models from the Hub: what is downloaded, what is reported first, and every way in which it fails."""

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors

import trim
from tests.trim import tiny
from tests.trim.fake_hub import COMMIT
from trim import hub as our_hub

NAME = "org/tiny-llama"
EXTRA = {
    "README.md": b"# read me",
    "pytorch_model.bin": b"pickle" * 1000,
    "original/consolidated.safetensors": b"x" * 5000,
    "onnx/model.onnx": b"x" * 5000,
    "modeling_own.py": b"raise SystemExit",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tiny.folder(tmp_path_factory.mktemp("models") / "tiny-llama", dtype=torch.bfloat16)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | EXTRA


def refusal(source: str = NAME, what: Callable = trim.load_model) -> str:
    with pytest.raises(trim.ModelError) as caught:
        what(source)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None or "holds" in str(caught.value)
    return str(caught.value)


def test_only_what_is_used_is_downloaded(hub, files):
    hub.add(NAME, files)
    described = trim.describe_model(NAME)
    used = set(files) - set(EXTRA)
    assert hub.downloaded() == {"config.json"}
    assert described.kind == "Hub"
    assert described.title == NAME
    assert described.download_bytes == sum(len(files[name]) for name in used)
    assert described.blocks == tiny.BLOCKS

    reported = []
    model = trim.load_model(NAME, device="cpu", progress=reported.append)
    assert hub.downloaded() == used
    assert model.dtype == torch.float32
    assert any("Downloading org/tiny-llama" in step.what for step in reported)
    assert reported[-1].what.startswith("Loading")

    hub.requests.clear()
    hub.repositories.clear()
    again = trim.load_model(NAME, device="cpu")
    assert trim.describe_model(NAME).download_bytes == 0
    assert again.fingerprint == model.fingerprint
    assert hub.requests == []


def test_a_revision_is_part_of_the_name(hub, files):
    hub.add(NAME, files)
    model = trim.load_model(f"{NAME}@{COMMIT}", device="cpu")
    assert model.title == f"{NAME}@{COMMIT}"
    assert "no revision 'v9'" in refusal(f"{NAME}@v9")


def test_an_interrupted_download_is_taken_up_again(hub, files):
    hub.add(NAME, files)
    trim.load_model(NAME, device="cpu")
    for weights in Path(constants.HF_HUB_CACHE).rglob("model.safetensors"):
        weights.resolve().unlink()
        weights.unlink()
    trim.load_model(NAME, device="cpu")


def test_repositories_without_a_model(hub, files):
    def without(*names: str, **more: bytes) -> dict[str, bytes]:
        return {name: content for name, content in files.items() if name not in names} | more

    hub.add("org/pickle", without("model.safetensors"))
    message = refusal("org/pickle")
    assert "pytorch_model.bin" in message
    assert "@refs/pr/NUMBER" in message
    hub.add("org/ggufs", {"tiny.Q4_0.gguf": b"GGUF"})
    assert "tiny.Q4_0.gguf" in refusal("org/ggufs")
    hub.add("org/nothing", {"README.md": b""})
    assert "no weights" in refusal("org/nothing", trim.describe_model)
    hub.add("org/silent", without("tokenizer.json"))
    assert "no tokenizer" in refusal("org/silent")
    hub.add("org/bare", without("config.json"))
    assert "no config.json" in refusal("org/bare")
    assert hub.downloaded() == set()


def test_an_unsupported_architecture_is_refused_before_its_weights_are_downloaded(hub, files):
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
    hub.add(NAME, files | {"config.json": json.dumps(config).encode()})
    with pytest.raises(trim.ModelError, match="encoder"):
        trim.load_model(NAME)
    assert hub.downloaded() == {"config.json"}


@pytest.mark.parametrize("what", [trim.load_model, trim.describe_model])
def test_refusals_of_the_hub(hub, what, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for status, code, text in (
        (404, "RepoNotFound", "check the spelling"),
        (401, "RepoNotFound", "check the spelling"),
        (403, "GatedRepo", "accept its licence on https://huggingface.co/org/tiny-llama"),
        (401, "GatedRepo", "HF_TOKEN"),
        (403, "", "refuses access"),
        (429, "", "too many requests"),
        (503, "", "status 503"),
    ):
        hub.refuse(NAME, status, code)
        message = refusal(NAME, what)
        assert text in message
        assert "hf_secret" not in message
    assert {authorization for _, _, authorization in hub.requests} == {"Bearer hf_secret"}


def test_a_gated_model_tells_its_size_but_not_its_files(hub, files, monkeypatch):
    hub.add(NAME, files)

    def gated(*_: object, **__: object) -> None:
        response = httpx2.Response(403, request=httpx2.Request("HEAD", f"{hub.url}/{NAME}"))
        raise errors.GatedRepoError("403 Client Error. Cannot access gated repo", response=response)

    monkeypatch.setattr(huggingface_hub.file_download, "get_hf_file_metadata", gated)
    assert "accept its licence" in refusal(NAME, trim.describe_model)


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (errors.OfflineModeIsEnabled("Cannot reach the Hub: offline mode is enabled."), "HF_HUB_OFFLINE"),
        (httpx2.ConnectError("[Errno -2] Name or service not known"), "check the network"),
        (httpx2.ReadTimeout("The read operation timed out"), "check the network"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "check the network"),
        (errors.LocalEntryNotFoundError("Cannot find the requested files"), "check the network"),
        (errors.HFValidationError("Repo id must use alphanumeric chars"), "look like org/name"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
    ],
)
def test_what_goes_wrong_on_the_way(hub, files, monkeypatch, cause, text):
    hub.add(NAME, files)

    def fail(*_: object, local_files_only: bool = False, **__: object) -> None:
        raise errors.LocalEntryNotFoundError("not cached") if local_files_only else cause

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal(NAME)
    assert text in message
    assert str(cause) not in message


def test_without_a_network_it_says_so_at_once(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    before = time.monotonic()
    assert "cannot be reached" in refusal(NAME)
    assert "cannot be reached" in refusal(NAME, trim.describe_model)
    assert time.monotonic() - before < 5


def test_a_hub_that_does_not_answer_is_given_up(hub, monkeypatch):
    import socket

    monkeypatch.setattr(our_hub, "TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        before = time.monotonic()
        assert "cannot be reached" in refusal(NAME)
        assert time.monotonic() - before < 5

"""What a stopped run leaves: nothing in the models that it streamed, and its first block on the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trim import rough
from tests.trim.rough import pruned
from trim.models.streamed import StreamedModel


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test no model that it streamed holds hooks, weights or stand-ins."""
    models: list[StreamedModel] = []
    begin = StreamedModel.__init__

    def remember(self: StreamedModel, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)
        models.append(self)

    monkeypatch.setattr(StreamedModel, "__init__", remember)
    yield
    for model in models:
        for name, part in model.module.named_modules():
            assert not part._forward_pre_hooks, name
            assert not part._forward_hooks, name
            assert "forward" not in part.__dict__, name
        assert all(parameter.is_meta for parameter in model.module.parameters())


@pytest.fixture
def stopped(own_llama: Path, tmp_path: Path) -> Path:
    """A run that was stopped after its first block."""
    rough.stopped(pruned, own_llama, tmp_path / "run")
    return tmp_path / "run"

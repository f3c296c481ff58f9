"""Windows of tokens: cut in pieces as at once, drawn by their place in a large text, begun with a token or not."""

import tracemalloc
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import trim
from tests.trim import tiny
from tests.trim.calibration.corpus_files import load, refusal
from trim.calibration import corpora, tokens
from trim.calibration.text_files import Text

SENTENCES = (
    "The house stood by the river. Nobody had lived there, they said, for 70 years; the well was dry.\n\n"
)


def trained(model: str) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer as Llama 3 has it (bytes), as Llama 2 has it (whole text, no words) or as BERT has it (words)."""
    special = ["<s>", "</s>", "<unk>"]
    if model == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            [SENTENCES],
            trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet),
        )
    elif model == "whole":
        made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.train_from_iterator([SENTENCES], trainers.BpeTrainer(vocab_size=90, special_tokens=special))
    else:
        made = Tokenizer(models.WordLevel(unk_token="<unk>"))
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.train_from_iterator(
            [SENTENCES], trainers.WordLevelTrainer(vocab_size=40, special_tokens=special)
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


TOKENIZERS = {name: trained(name) for name in ("bytes", "whole", "words")}


def with_bos(end: bool = False) -> transformers.PreTrainedTokenizerFast:
    made = trained("bytes")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if end else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    text=st.text(alphabet=st.sampled_from("the house. 7\n é是🙂"), max_size=900), size=st.integers(60, 200)
)
@example(text=SENTENCES * 9, size=61)
def test_pieces_give_the_tokens_of_the_whole(name, text, size):
    tokenizer = TOKENIZERS[name]
    whole = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "PIECE_CHARACTERS", size)
        patch.setattr(tokens, "LEAD_CHARACTERS", 40)
        patch.setattr(corpora, "LEAD_CHARACTERS", 40)
        patch.setattr(tokens, "UNSETTLED_TOKENS", 16)
        assert torch.equal(tokens.tokens_of(Text.of(text), tokenizer), whole)
        assert torch.equal(tokens.tokens_of(Text.of(text), tokenizer, limit=25), whole[:25])


@pytest.mark.parametrize("end", [False, True])
def test_the_demo_in_pieces_with_what_its_tokenizer_adds(end):
    text, tokenizer = corpora.demo_text("evaluation"), with_bos(end)
    assert len(text) > 2 * tokens.PIECE_CHARACTERS
    whole = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.int64)
    assert torch.equal(tokens.tokens_of(Text.of(text), tokenizer), whole)


def test_memory_is_that_of_a_piece(monkeypatch):
    monkeypatch.setattr(tokens, "PIECE_CHARACTERS", 2**14)
    text = SENTENCES * 4_000
    tokens.tokens_of(Text.of(text[:10_000]), TOKENIZERS["bytes"])
    tracemalloc.start()
    found = tokens.tokens_of(Text.of(text), TOKENIZERS["bytes"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) > 60_000
    assert peak < 6e6  # 20 MB where all is cut at once


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_each_window_begins_with_the_token_that_the_tokenizer_adds(split, bos, tmp_path):
    path, tokenizer = tmp_path / "a.txt", with_bos(end=True)
    path.write_text(SENTENCES * 80)
    windows = trim.load_corpus(path, tokenizer, split=split, windows=6, length=32, bos=bos)
    assert windows.shape == (6, 32)
    begun = windows[:, 0] == tokenizer.bos_token_id
    if bos:
        assert begun.all()
        assert (windows[:, 1:] != tokenizer.bos_token_id).all()
    else:
        assert int(begun.sum()) == (split == "evaluation")
    if split == "evaluation":  # no token of the text is left out between windows
        part = SENTENCES * 80
        own = windows[:, 1:] if bos else windows
        assert tokenizer.decode(own.reshape(-1), skip_special_tokens=True) in part


def test_c4_windows_begin_with_the_token_too(monkeypatch):
    import datasets

    documents = datasets.Dataset.from_dict({"text": [SENTENCES * (n % 5) for n in range(20)]})
    monkeypatch.setattr(corpora, "c4_documents", lambda split, say: documents)
    tokenizer = with_bos()
    windows = trim.load_corpus("c4", tokenizer, windows=6, length=32)
    assert (windows == tokenizer.bos_token_id).nonzero().tolist() == [[n, 0] for n in range(6)]
    assert windows.shape == (6, 32)


def test_a_tokenizer_that_adds_nothing_is_the_same_either_way(tmp_path):
    (tmp_path / "a.txt").write_text(SENTENCES * 80)
    cut = [
        trim.load_corpus(tmp_path / "a.txt", TOKENIZERS["bytes"], windows=6, length=32, bos=bos)
        for bos in (True, False)
    ]
    assert torch.equal(*cut)
    assert tokens.window_start(TOKENIZERS["bytes"]) == []
    assert tokens.window_start(with_bos(end=True)) == [0]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A text that counts as large, with a number in each sentence, between blanks that make few tokens."""
    monkeypatch.setattr(corpora, "MAX_WHOLE_CHARACTERS", 1000)
    path = tmp_path / "large.txt"
    path.write_text("".join(f"sentence {number} of many, " for number in range(20_000)))
    return path


def test_windows_of_a_large_text_are_drawn_by_their_place(large):
    windows = trim.load_corpus(large, tiny.tokenizer(), windows=64, length=100, seed=1)
    again = trim.load_corpus(large, tiny.tokenizer(), windows=64, length=100, seed=1)
    other = trim.load_corpus(large, tiny.tokenizer(), windows=64, length=100, seed=2)
    assert torch.equal(windows, again)
    assert not torch.equal(windows, other)
    whole, begins = large.read_text(), []
    for window in windows:
        told = tiny.tokenizer().decode(window.tolist())
        begins.append(whole.index(told) / len(whole))
        assert whole[whole.index(told) - 1] == " "  # not within a word
    assert max(begins) < 0.8  # the last fifth is for evaluation
    assert min(begins) < 0.1
    assert 0.3 < sum(begins) / 64 < 0.5


def test_a_large_text_of_few_tokens(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "MAX_WHOLE_CHARACTERS", 1000)
    path = tmp_path / "blanks.txt"
    path.write_text((" " * 500 + "word ") * 200)
    windows = trim.load_corpus(path, TOKENIZERS["words"], windows=3, length=40, split="calibration")
    assert windows.shape == (3, 40)
    with pytest.raises(trim.CorpusError, match="too few tokens, less than one window of 4,000"):
        trim.load_corpus(path, TOKENIZERS["words"], windows=3, length=4000)


def test_evaluation_of_a_large_text_reads_what_is_asked_for(monkeypatch, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(SENTENCES * 200)
    expected = trim.load_corpus(path, tiny.tokenizer(), split="whole", windows=None, length=50)
    monkeypatch.setattr(corpora, "MAX_EVALUATION_CHARACTERS", 1000)
    cut = trim.load_corpus(path, tiny.tokenizer(), split="whole", windows=7, length=50)
    assert torch.equal(cut, expected[:7])
    with pytest.raises(trim.CorpusError, match="give the number of windows to read"):
        trim.load_corpus(path, tiny.tokenizer(), split="whole", windows=None, length=50)


def test_windows_follow_the_seed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" ".join(map(str, range(1000))))
    assert torch.equal(load(path, seed=3), load(path, seed=3))
    assert not torch.equal(load(path, seed=3), load(path, seed=4))


def test_settings_that_make_no_windows():
    assert "calibration, evaluation, whole" in refusal("demo", split="test")
    assert "a file of your own" in refusal("demo", split="whole")
    assert "at least one window" in refusal("demo", windows=0)
    assert "at least 2 tokens" in refusal("demo", length=1)
    assert "the number of calibration windows" in refusal("demo", windows=None)
    assert "fills" in refusal("demo", split="evaluation", windows=10_000, length=512)

"""The text of a recovery: what is held out, what the dense model writes, and how it is read."""

import dataclasses

import torch

import trim
from tests.trim.recovery.models import LENGTH
from trim.calibration.corpora import load_corpus
from trim.models.checkpoint import load_tokenizer
from trim.recovery.pair import open_pair
from trim.recovery.recover import calibration_windows
from trim.recovery.sampling import sample_windows
from trim.recovery.text import RecoveryText


def test_held_out_windows_share_nothing_with_the_others_and_each_is_read_in_its_turn():
    long = torch.arange(400)
    windows = long[torch.tensor([0, 100, 8, 300, 90, 200, 250, 120])[:, None] + torch.arange(32)]
    text = RecoveryText.split(windows, torch.device("cpu"))
    assert torch.equal(text.held_out, windows[:1])
    assert {int(each[0]) for each in text.training} == {
        100,
        300,
        90,
        200,
        250,
        120,
    }  # 8 shares 24 tokens with 0
    both = dataclasses.replace(text, sampled=torch.full((2, 32), -1) - torch.arange(2)[:, None])
    read = torch.cat([both.step(number, 3, 0.5, seed=1) for number in range(4)])[:, 0].tolist()
    assert sorted(each for each in read if each >= 0) == [90, 100, 120, 200, 250, 300]
    assert sorted(each for each in read if each < 0) == [-2, -2, -2, -1, -1, -1]


def test_held_out_windows_share_least_with_what_the_model_was_pruned_on(run, dense):
    windows = torch.arange(400)[torch.tensor([0, 100, 200, 300])[:, None] + torch.arange(32)]
    seen = torch.arange(400)[torch.tensor([4, 110, 200])[:, None] + torch.arange(20)]
    text = RecoveryText.split(windows, torch.device("cpu"), seen)
    assert [int(each[0]) for each in torch.cat([text.held_out, text.training])] == [300, 0, 100, 200]
    request = run.request
    tokenizer = load_tokenizer(dense)
    expected = load_corpus(request.corpus, tokenizer, windows=4, length=LENGTH, seed=request.seed)
    pair = open_pair(run.path, None, torch.float32, None)
    found = calibration_windows("demo", pair, None)
    assert found is not None
    assert torch.equal(found, expected)
    assert calibration_windows("wikitext2", pair, None) is None


def test_what_the_model_writes_begins_as_texts_do_or_as_the_text(dense):
    model = trim.load_model(dense, device="cpu")
    model.tokenizer.bos_token_id = 1
    prompts = torch.full((3, 40), 7)
    written = sample_windows(model, prompts, 6, seed=3)
    assert written.shape == (6, 40)
    assert torch.equal(written[::2, 0], torch.full((3,), 1))
    assert torch.equal(written[1::2, :16], torch.full((3, 16), 7))
    assert torch.equal(written, sample_windows(model, prompts, 6, seed=3))
    assert not torch.equal(written, sample_windows(model, prompts, 6, seed=4))

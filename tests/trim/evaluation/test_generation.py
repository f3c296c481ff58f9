"""One prompt continued: greedy against a naive loop, seeds, prompts that do not fit, columns on the terminal."""

import json

import pytest
import torch

import trim
from tests.trim import rough
from trim.cli import main
from trim.cli.evaluate import side_by_side


def test_greedy_is_the_most_probable_token_each_time(model):
    prompt = "My fellow Americans"
    tokens = model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(12):
        with torch.no_grad():
            best = model.module(tokens).logits[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, best], dim=1)
        if int(best) == 2:  # the end of the text
            break
    expected = model.tokenizer.decode(tokens[0, len(prompt) :], skip_special_tokens=True)
    assert trim.continue_prompt(model, prompt, trim.Sampling(new_tokens=12)) == expected


def test_draws_are_decided_by_the_seed_alone(model):
    def write(seed: int) -> str:
        return trim.continue_prompt(model, "we", trim.Sampling(20, temperature=1.0, seed=seed))

    state = torch.random.get_rng_state()
    assert write(1) == write(1)
    assert write(1) != write(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_defaults_of_the_checkpoint_do_not_mix_with_ours(model):
    expected = trim.continue_prompt(model, "we", trim.Sampling(8))
    defaults = model.module.generation_config
    defaults.repetition_penalty = 5.0
    assert trim.continue_prompt(model, "we", trim.Sampling(8)) == expected
    assert model.module.generation_config is defaults


def test_prompts_that_cannot_be_continued(model):
    with pytest.raises(trim.CorpusError, match="empty"):
        trim.continue_prompt(model, "  ")
    with pytest.raises(trim.CorpusError, match="100,000 tokens, and with 64 new ones it exceeds the 128"):
        trim.continue_prompt(model, "a" * 100_000)
    with pytest.raises(trim.CorpusError, match="fewer new tokens"):
        trim.continue_prompt(model, "a" * 100, trim.Sampling(29))
    assert trim.continue_prompt(model, "a" * 100, trim.Sampling(28))
    for wrong in ({"new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(trim.SettingsError):
            trim.Sampling(**wrong)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_in_the_model_is_a_clear_error(folder, temperature):
    broken = trim.load_model(folder, device="cpu")
    with torch.no_grad():
        broken.module.lm_head.weight[3] = float("nan")
    with pytest.raises(trim.NonFiniteError, match="NaN"):
        trim.continue_prompt(broken, "we", trim.Sampling(4, temperature))


def test_several_side_by_side(folder, tmp_path, capsys):
    runs = []
    for target in (0.3, 0.9):
        runs.append(tmp_path / f"run-{target}")
        rough.wanda(folder, runs[-1], target=target, layers=["1.*"])
    asked = ["generate", str(folder), *map(str, runs), "--prompt", "we", "--new-tokens", "10"]
    assert main([*asked, "--json"]) == 0
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["target"] for entry in written] == [str(folder), *map(str, runs)]
    assert len({entry["continuation"] for entry in written}) > 1
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["tiny", "run-0.3", "run-0.9"]
    assert main([*asked[:2], "--prompt", ""]) == 2
    assert "empty" in capsys.readouterr().err


def test_columns_hold_what_they_are_given():
    text = side_by_side([("one", "a b\n\nc"), ("two", "d\x1b[31m\te" + " word" * 20)], 60)
    lines = text.splitlines()
    assert lines[0].split() == ["one", "two"]
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 60
    assert len(set(map(len, side_by_side([("one", "a"), ("two", "b")], 60).splitlines()[1:2]))) == 1
    assert side_by_side([("one", "a"), ("two", "b")], 30) == "one\n---\na\n\ntwo\n---\nb"

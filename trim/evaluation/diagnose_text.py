"""The findings of diagnoses in sentences. Imports no torch."""

from dataclasses import dataclass

import numpy as np

from trim.evaluation.entries import format_perplexity
from trim.methods.signal import RowSignal
from trim.names import counted, one_line
from trim.runs.diagnosis_shapes import (
    BlockErrorDiagnosis,
    Diagnoses,
    LayerCostDiagnosis,
    MaskAgreementJson,
    MeasuredText,
    TargetCounts,
    TokenDiagnosis,
)

DIAGNOSES = {
    "layers": "what each layer costs, pruned alone",
    "blocks": "where error builds up, block by block",
    "tokens": "which tokens suffer",
}
LAYER_DIAGNOSES = {
    "signal": "how certain the row sparsities of a layer are that TRIM learns",
    "agreement": "which weights of a layer the run and another method both keep",
    "targets": "a layer's rows at all targets",
}
CONTEXT_TOKENS = 12  # tokens of context before a listed token


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Attributes:
        window, index: indices of the window, and of the token in it.
        text: the token's text.
        before: the text before it.
        dense, pruned: its loss under both models.
    """

    window: int
    index: int
    text: str
    before: str
    dense: float
    pruned: float

    @property
    def difference(self) -> float:
        """Return the loss added by pruning, in nats."""
        return self.pruned - self.dense


def format_text(text: MeasuredText) -> str:
    """Describe the text of a diagnosis in a few words."""
    name = text["corpus"].replace("\\", "/").rpartition("/")[2]
    return f"{counted(text['windows'], 'window')} of {text['length']:,} tokens of {name}"


def added_losses(measured: LayerCostDiagnosis) -> dict[str, float]:
    """Return the loss per token that pruning each layer alone adds, in nats."""
    dense = float(measured["dense_loss"])
    return {name: float(numbers["loss"]) - dense for name, numbers in measured["layers"].items()}


def layers_finding(measured: LayerCostDiagnosis) -> str:
    """Describe which layer costs most, how uneven costs are, and how well sensitivities predict them."""
    costs = {name: cost for name, cost in added_losses(measured).items() if np.isfinite(cost)}
    if not costs:
        return "No layer has a finite loss."
    dense = float(measured["dense_loss"])
    worst = max(costs, key=costs.__getitem__)
    if costs[worst] > 0:
        sentence = (
            f"Alone, {worst} costs most: it raises the loss by {costs[worst]:.3g} nats per token, perplexity "
            f"{format_perplexity(float(np.exp(dense)))} to {format_perplexity(float(np.exp(dense + costs[worst])))}."
        )
    else:
        sentence = "No layer raises the loss alone."
    errors = {name: float(measured["layers"][name]["standard_error"]) for name in costs}
    if known := [name for name in costs if np.isfinite(errors[name])]:
        clear = sum(costs[name] > 2 * errors[name] for name in known)
        verb = "costs" if clear == 1 else "cost"
        sentence += (
            f" On this text {clear} of {counted(len(known), 'layer')} {verb} more than twice "
            "the standard error."
        )
    ordered = sorted((max(cost, 0.0) for cost in costs.values()), reverse=True)
    if len(ordered) >= 20 and sum(ordered) > 0:
        tenth = max(1, len(ordered) // 10)
        share = sum(ordered[:tenth]) / sum(ordered)
        sentence += (
            f" The most expensive {tenth} of {len(ordered)} layers cause {share:.0%} of the sum of all costs."
        )
    return sentence


def blocks_finding(measured: BlockErrorDiagnosis) -> str:
    """Describe how large the error is in the end, and which block and layer add most of it."""
    blocks = [each for each in measured["blocks"] if np.isfinite(float(each["added"]))]
    if not blocks:
        return "No block has a finite error."
    last = blocks[-1]
    most = max(blocks, key=lambda each: float(each["added"]))
    sentence = (
        f"After the last block half of the tokens are off by {float(last['error']):.1%} of their hidden state or more. "
        f"Block {most['block']} adds most, {float(most['added']):.1%}"
    )
    layers = {name: float(value) for name, value in most["layers"].items()}
    if layers:
        worst = max(layers, key=layers.__getitem__)
        sentence += f", of its layers {worst} ({layers[worst]:.1%} alone)"
    return sentence + "."


def measured_tokens(measured: TokenDiagnosis) -> list[Token]:
    """Return all tokens but the first of each window, in the order of the text."""
    tokens = []
    for window, (pieces, dense, pruned) in enumerate(
        zip(measured["pieces"], measured["dense"], measured["pruned"], strict=True)
    ):
        for index, text in enumerate(pieces[1:], 1):
            before = "".join(pieces[max(0, index - CONTEXT_TOKENS) : index])
            losses = float(dense[index - 1]), float(pruned[index - 1])
            tokens.append(Token(window, index, text, before, *losses))
    return tokens


def tokens_finding(measured: TokenDiagnosis) -> str:
    """Describe how the loss that pruning adds is spread over tokens, and which token lost most."""
    tokens = [token for token in measured_tokens(measured) if np.isfinite(token.difference)]
    if not tokens:
        return "No token has a finite loss."
    added = np.array([token.difference for token in tokens])
    worst = tokens[int(added.argmax())]
    rising = np.sort(added[added > 0])[::-1]
    verb = "adds" if added.mean() >= 0 else "saves"
    better, context = (added < 0).mean(), one_line(worst.before[-40:])
    sentence = (
        f"Pruning {verb} {abs(added.mean()):.3g} nats per token; {better:.0%} of the tokens are predicted better than "
        "before"
    )
    if not rising.size:
        return f"{sentence}, and none worse."
    share = rising[: max(1, len(tokens) // 10)].sum() / rising.sum()
    return (
        f"{sentence}. The tenth with the largest increases accounts for {share:.0%} of all increases; the largest is "
        f"“{worst.text.strip() or repr(worst.text)}” after “…{context}” (+{worst.difference:.3g})."
    )


def signal_finding(signal: RowSignal) -> str:
    """Describe how much of the spread between rows is signal, and how certain a row is."""
    rates = list(signal.rates)
    most = max(set(rates), key=rates.count)
    rate = "no rate" if most is None else f"rate {most:+g}".replace("-", "−")
    chosen = f"{rate} was chosen in {rates.count(most)} of {len(rates)} draws."
    share = signal.signal_share
    if np.isnan(share):
        return f"Row sparsities are the same in every row and draw; {chosen}"
    return (
        f"{share:.0%} of the variance of row sparsities is between rows, the rest is their own uncertainty. A row's "
        f"sparsity is certain to ± {np.median(signal.uncertainty):.2%} (median); {signal.significant_share:.0%} of the "
        f"rows differ from the layer's by more than twice their uncertainty; {chosen}"
    )


def agreements_finding(agreements: list[MaskAgreementJson]) -> str:
    """Name the methods whose masks agree most and least with the run's."""
    if not agreements:
        return "No method of the library reaches this layer's sparsity."
    ordered = sorted(agreements, key=lambda each: -each["whole"])
    best, least = ordered[0], ordered[-1]
    return (
        f"Closest is {best['allocation']} by {best['score']}: of the weights that either mask keeps, both keep "
        f"{best['whole']:.1%}, at random {best['expected']:.1%}. Furthest away is {least['allocation']} by "
        f"{least['score']}, {least['whole']:.1%}."
    )


def targets_finding(methods: list[TargetCounts], columns: int) -> str:
    """Describe the widest spread of row sparsities of each method, and its target."""
    widest = []
    for each in methods:
        low, high = np.percentile(np.array(each["counts"]) / columns, (5, 95), axis=1)
        index = int((high - low).argmax())
        widest.append(
            f"{each['method']} spreads nine rows in ten most at a target of {each['targets'][index]:.0%}, from "
            f"{low[index]:.1%} to {high[index]:.1%}"
        )
    return "; ".join(widest) + "."


def finding(what: str, diagnoses: Diagnoses) -> str:
    """Describe the result of a diagnosis in one or two sentences, computed from the numbers."""
    if what == "layers":
        return layers_finding(diagnoses["layers"])
    return blocks_finding(diagnoses["blocks"]) if what == "blocks" else tokens_finding(diagnoses["tokens"])

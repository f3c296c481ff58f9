"""Solve for a layer's mask and its kept weights together.

Among all Ŵ with K entries that are not 0, find the one that minimises

    Σ_i f_i (‖w_i X + e_i − ŵ_i X̂‖² + λ ‖w_i − ŵ_i‖²)

with the terms of `trim.methods.least_squares` and the rows' sensitivities f. A layer that writes to the residual stream
makes up for the stream's earlier error e; other layers have e = 0. Meng et al., "ALPS" (arXiv 2406.07831, sections 3.1
and 3.2) solve the case f = 1, e = 0 and X = X̂ by the alternating direction method of multipliers (ADMM): the iterate B
has no zeros, Z has K entries, and a multiplier V pulls them together, with a weight ρ that grows depending on how much
the chosen set still changes. Columns are scaled to one size, and rows by √f_i. The K entries are the largest of the
whole layer, so rows keep different numbers. Conjugate gradients on the chosen entries come last.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trim.methods.least_squares import TextProducts, descend, fast_products, shift_inverse
from trim.methods.masks import keep_largest, keep_largest_of_groups
from trim.methods.pattern import Pattern
from trim.methods.refit import refit
from trim.progress import Meter, ProgressListener

RHO = 0.1  # the initial ρ
MAX_STEPS = 300
STEPS_PER_RHO = 3
MIN_STEPS, SETTLED = 30, 0.0003  # after these steps, a set that changes by a smaller share is final
# Pairs of a share of the kept entries, and the factor by which ρ grows while a larger share changes.
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
SHRINK = 1 / 5  # the factor on ρ if the set hardly changes at first
# Rounds and iterations of the final conjugate gradients; each round recovers the TF32 rounding of the previous one.
DESCENT, EXACT_DESCENT = (4, 5), (1, 10)
_LEAST_WEIGHT = 1e-8  # a row's smallest weight as a share of the mean, so that its scale is not 0


@dataclass(frozen=True, eq=False)
class Solution:
    """A layer that was solved.

    Attributes:
        keep: (D, N) bool, True where a weight is kept.
        weight: (D, N) float32, its weights; 0 where pruned.
        steps: number of ADMM steps.
        diverged: whether the search failed, so that the initially largest weights were refitted instead.
    """

    keep: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    steps: int
    diverged: bool = False


def solve(
    weight: Tensor,
    text: TextProducts,
    total: int,
    *,
    sensitivity: Tensor | None = None,
    pattern: Pattern | None = None,
    descent: tuple[int, int] | None = None,
    progress: ProgressListener | None = None,
) -> Solution:
    """Choose a layer's mask and its kept weights together.

    Args:
        weight: (D, N), dense and finite.
        text: the products of the calibration text.
        total: how many weights are pruned, from 0 to D · N; not used with a pattern.
        sensitivity: (D,) the rows' weights f, not negative; None: equal weights.
        pattern: an n:m pattern instead of the largest entries of the whole layer; None: no pattern.
        descent: rounds and iterations of the final conjugate gradients; None: as many as the device needs.
        progress: called every few steps; an exception from it ends the work.
    """

    def select(sizes: Tensor, exactly: bool = True) -> Tensor:
        if pattern is not None:
            return keep_largest_of_groups(sizes, pattern)
        return keep_largest(sizes, weight.numel() - total, exactly=exactly)

    row_scale = _row_scale(weight, sensitivity)[:, None]
    scaled = weight * text.column_scale * row_scale
    initial = select(scaled.abs())
    if pattern is None and total in (0, weight.numel()):
        return Solution(initial, refit(weight, initial, text), 0)
    drift = text.drift(weight.float())
    try:
        found, steps = _alternate(scaled, drift, row_scale, text, initial, select, Meter(progress))
    except torch.linalg.LinAlgError:
        return Solution(initial, refit(weight, initial, text), 0, diverged=True)
    del scaled
    keep = select(found.abs())
    start = found.div_(text.column_scale).div_(row_scale)
    rounds, iterations = descent or (DESCENT if weight.is_cuda else EXACT_DESCENT)
    solved = descend(weight, keep, text, start=start, drift=drift, rounds=rounds, iterations=iterations)
    dense = weight.float()
    costs = [
        text.objective(dense, each, drift) @ row_scale[:, 0].double() ** 2
        for each in (solved, dense * initial)
    ]
    if bool(costs[0] <= costs[1]):  # False for NaN
        return Solution(keep, solved, steps)
    return Solution(initial, refit(weight, initial, text), steps, diverged=True)


def _row_scale(weight: Tensor, sensitivity: Tensor | None) -> Tensor:
    """Return √(f_i / mean f), (D,) float32."""
    if sensitivity is None:
        return torch.ones(len(weight), device=weight.device)
    share = sensitivity.to(weight.device, torch.float64)
    share = share / share.mean().clamp_min(torch.finfo(torch.float64).tiny)
    return share.clamp_min(_LEAST_WEIGHT).sqrt().float()


def _alternate(
    scaled: Tensor,
    drift: Tensor | None,
    row_scale: Tensor,
    text: TextProducts,
    initial: Tensor,
    select: Callable[[Tensor, bool], Tensor],
    meter: Meter,
) -> tuple[Tensor, int]:
    """Find the iterate B of ADMM, (D, N) float32, and the number of steps after which the set was final.

    With C = B + V / ρ, the next Z is C at the chosen entries, and the next V is ρ times C at the others (`c_pruned`):
    neither is stored. B is computed as a small change of the dense weights, so that the rounding of a product is small
    too.

    Args:
        scaled: (D, N) float32, the dense weights.
        drift: the text's drift, not scaled; None: it is 0.
        row_scale: (D, 1) float32.
        text: its column scale and inverses are used.
        initial: (D, N) bool, the initial set.
        select: chooses the set from the entries' sizes; the flag is `exactly` of `keep_largest`.
        meter: reports how much of the set changed last.
    """
    inverse = text.inverse(RHO)
    c, c_pruned = scaled * initial, torch.zeros_like(scaled)
    work, b, offset = (torch.empty_like(scaled) for _ in range(3))

    def set_offset(rho: float) -> None:
        if drift is None:
            torch.mul(scaled, -rho, out=offset)
        else:
            torch.div(drift, text.column_scale, out=offset).mul_(row_scale).sub_(scaled, alpha=rho)

    rho = rho_before = RHO
    set_offset(rho)
    keep = last = initial
    has_changed = False
    for step in range(1, MAX_STEPS + 1):
        torch.add(offset, c, alpha=rho, out=work).sub_(c_pruned, alpha=rho_before + rho)
        with fast_products(scaled.device):
            torch.addmm(scaled, work, inverse, out=b)
        torch.add(b, c_pruned, alpha=rho_before / rho, out=c)
        rho_before = rho
        check = step % STEPS_PER_RHO == 0
        keep = select(torch.abs(c, out=work), check)
        torch.mul(c, ~keep, out=c_pruned)
        if not check:
            continue
        changed, kept = torch.stack([(keep != last).sum(), keep.sum()]).tolist()
        share = changed / max(1, kept)
        meter.report(f"Solving, step {step}: {share:.2%} of the kept weights changed")
        last = keep
        has_changed = has_changed or share > GROWTH[1][0]
        if (has_changed and not changed) or (step > MIN_STEPS and share < SETTLED):
            break
        if has_changed:
            rho *= next(factor for least, factor in GROWTH if share > least)
        else:
            rho *= SHRINK
            if changed:
                torch.mul(scaled, initial, out=c)
                c_pruned.zero_()
        if rho > rho_before and inverse.is_cuda:  # where a decomposition takes as long as dozens of products
            shift_inverse(inverse, rho_before, rho - rho_before)
        elif rho != rho_before:
            inverse = text.inverse(rho)
        set_offset(rho)
    return b, step

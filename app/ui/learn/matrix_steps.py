"""The lessons on four rows or fewer: scores, uniform damage, retention curves, Gini, the optimum."""

import functools

import numpy as np

from app.ui.common import explanations
from app.ui.learn.step import Check, Control, Picture, Step
from diagnostics.figures.lesson_matrix import (
    curve_drawing,
    damage_drawing,
    lorenz_drawing,
    masks_drawing,
    score_drawing,
)
from diagnostics.format import number, percent
from diagnostics.gap import captured_share

LOUDNESS = tuple(np.arange(0, 6.01, 0.1).round(1).tolist())
FACTORS = tuple(np.arange(1, 20.01, 0.2).round(1).tolist())
TARGETS = (0.25, 0.375, 0.5, 0.625, 0.75)
PLACES = ("the lowest", "the second lowest", "the second highest", "the highest")

OPTIMAL_FORMULA = r"""
$$
\min_{k}\; \sum_i \lVert Y_i - \hat Y_i(k_i)\rVert^2 \quad\text{with}\quad \sum_i k_i = K
$$

For a price $\mu$ of a weight each row takes the count $k_i$ with the least squared error less $\mu k_i$; the price is
raised until the counts add up to $K$ (Everett 1963; Shoham & Gersho 1988).
"""


@functools.cache
def _scores() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.scores(value) for value in LOUDNESS]
    findings = []
    for value, lesson in zip(LOUDNESS, found, strict=True):
        rows = [str(row) for row in np.flatnonzero(~lesson.pruned.keep[:, 3])]
        fate = f"pruned in row{'s' * (len(rows) > 1)} {', '.join(rows)}" if rows else "kept in every row"
        findings.append(
            f"Row 0, feature 3: weight {lesson.weight[0, 3]:.1f} times norm {value:.1f} is score "
            f"{lesson.pruned.score[0, 3]:.1f}. The weight at feature 3 is {fate}."
        )
    return Picture(
        score_drawing(found),
        Control(
            "loudness", "How loud is feature 3? (its norm)", tuple(map(str, LOUDNESS)),
            tuple(f"norm {value:.1f}" for value in LOUDNESS), LOUDNESS.index(3.0), 5,
        ),
        findings,
        "Three tables, one below the other: weights of four rows and eight features, the features' norms, and their "
        "product, the scores, with the lower half of each row crossed out",
        lambda: {
            "norm": np.repeat(LOUDNESS, lessons.ROWS * lessons.COLUMNS),
            "score": np.concatenate([each.pruned.score.ravel() for each in found]),
            "kept": np.concatenate([each.pruned.keep.ravel() for each in found]),
        },
    )  # fmt: skip


SCORES = Step(
    "Scores",
    "Which weights matter?",
    "A model's **layer** is a table of **weights**; each row multiplies its inputs (*features*) by them and adds up. "
    "**Pruning** sets weights to zero. The method *Wanda* prunes the lowest **scores** of each row: size of the "
    "weight times **norm** of its feature, how loud that is on sample texts.",
    "Score: size of the weight times the norm of its feature. The lowest scores of each row are pruned.",
    "Make feature 3 quiet: no weight changes, yet others survive.",
    "Ask first: which of the 32 weights would you keep? Most point at the large ones. Move feature 3 to 0.5: "
    "nothing in W has changed, yet row 2's weight there is pruned. Then the question.",
    Check(
        "Row 3 has −1.3 at feature 2 (norm 1) and 0.9 at feature 3 (norm 3). Which is pruned first?",
        (
            "0.9: the smaller weight",
            "−1.3: the lower score",
            "−1.3: negative weights go first",
        ),
        1,
        "The scores are 1.3 · 1 = 1.3 and 0.9 · 3 = 2.7. The sign plays no part, and size alone does not decide.",
    ),
    explanations.SCORE_FORMULA["wanda"],
    _scores,
)


@functools.cache
def _damage() -> Picture:
    from app.services.layer import lessons  # imports torch

    matrices = [lessons.damage(pruned) for pruned in range(lessons.COLUMNS + 1)]
    findings = []
    for pruned, matrix in enumerate(matrices):
        worst, best = int(matrix.cosine.argmin()), int(matrix.cosine.argmax())
        findings.append(
            "Nothing is pruned: every output is what it was." if pruned == 0
            else "Nothing is left of any row." if pruned == lessons.COLUMNS
            else f"With {pruned} of 8 weights pruned, row {best} keeps a cosine of "
            f"{number(matrix.cosine[best], 2)} and row "
            f"{worst} {number(matrix.cosine[worst], 2)}."
        )  # fmt: skip
    counts = range(len(matrices))
    return Picture(
        damage_drawing(matrices),
        Control(
            "pruned", "Weights pruned in every row (of 8)", tuple(map(str, counts)),
            tuple(f"{pruned} of 8" for pruned in counts), 4, rate=2,
        ),
        findings,
        "A table of the scores of four rows, the pruned ones crossed out, and beside each row a bar: the cosine of its "
        "output",
        lambda: {
            "pruned": np.repeat(counts, lessons.ROWS),
            "row": np.tile(np.arange(lessons.ROWS), len(matrices)),
            "cosine": np.concatenate([matrix.cosine for matrix in matrices]),
        },
    )  # fmt: skip


UNIFORM = Step(
    "Uniform",
    "Does every row suffer the same?",
    "**Sparsity**: the share of weights pruned; **uniform**: the same in every row. A row's outputs on texts are "
    "a vector; its **cosine** is 1 if pruning does not turn it, 0 if nothing of it is left. Here each text "
    "excites one feature: cosine² = kept scores² / all scores².",
    "Every row loses the same share of its weights, but not the same share of its output. Inputs here excite one "
    "feature at a time.",
    "Row 0 rests on one weight, row 1 on all.",
    "Let them compute row 0 at 4 of 8: the scores kept are 0.3, 6.0, 0.4 and 0.3, so the cosine is √(36.34 / "
    "36.44), very nearly 1. Row 1, with scores from 0.7 to 1.2, keeps 0.81. Move to 6 of 8: row 0 still keeps "
    "1.00, row 1 only 0.61. Say that real inputs excite many features at once: then only the computer can check.",
    Check(
        "Row 0 loses half of its weights and keeps a cosine of 1.00. Why?",
        (
            "One weight carries nearly all of its output, and stays",
            "It has more weights than the other rows",
            "Its output was zero before",
        ),
        0,
        "Its weight at feature 3 has score 6.0; the seven others have 0.4 or less.",
    ),
    explanations.COSINE_FORMULA
    + "\n\nHere each calibration vector excites one feature, so $c_i = \\sqrt{\\text{kept scores}^2 / "
    "\\text{all scores}^2}$, sums over the row.",
    _damage,
)


@functools.cache
def _retention() -> Picture:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.retention()
    columns = lesson.score.shape[1]
    counts = range(columns + 1)
    findings = [
        f"With {pruned} of {columns} weights pruned ({percent(pruned / columns, 0)}): "
        + ", ".join(
            f"{name} {number(value, 2)}"
            for name, value in zip(lesson.names, lesson.cosine[:, pruned], strict=True)
        )
        + "."
        for pruned in counts
    ]
    return Picture(
        curve_drawing(lesson),
        Control(
            "sparser", f"Weights pruned in every row (of {columns})", tuple(map(str, counts)),
            tuple(f"{pruned} of {columns}" for pruned in counts), 48, 8,
        ),
        findings,
        "The weights of three rows by their score, and below them the cosine of each row's output against row sparsity",
        lambda: {"pruned": np.arange(columns + 1)}
        | {
            f"cosine_{name.replace(' ', '_')}": cosine
            for name, cosine in zip(lesson.names, lesson.cosine, strict=True)
        },
    )  # fmt: skip


CURVES = Step(
    "Curves",
    "What does each further weight cost?",
    "Prune a row weight by weight, lowest score first, and note the cosine: its **retention curve**. One pass "
    "over the layer gives every row's. **TRIM**, this course's subject, chooses how many weights each row "
    "loses, by looking things up.",
    "One pass over a layer gives each row's retention curve: its cosine at every sparsity. TRIM only looks things up.",
    "Play. At 75% the even row is down to 0.84; the one with few large weights still has 1.00.",
    "Press Play (P), then go back (↓) to where the even row begins to fall. The three rows are equally loud; only how "
    "their output is spread over the weights differs. Everything in TRIM Lab that moves under a slider is a "
    "look-up in such curves.",
    Check(
        "TRIM wants a row's cosine at 60% row sparsity. What must it compute?",
        (
            "The pruned row's product with all inputs",
            "Nothing: the curve has it",
            "The row's Gini",
        ),
        1,
        "One pass over the sorted weights gave the cosine at every number of pruned weights. A whole search is "
        "look-ups.",
    ),
    explanations.COSINE_FORMULA,
    _retention,
)


@functools.cache
def _lorenz() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.concentration(factor) for factor in FACTORS]
    findings = []
    for curves in found:
        row = curves[lessons.EVEN_ROW]
        index = sorted(curve.gini for curve in curves).index(row.gini)
        findings.append(
            f"Row 1 has a Gini of {number(row.gini, 2)}, {PLACES[index]} of the four. The others stay."
        )
    ginis = np.array([[curve.gini for curve in curves] for curves in found])
    return Picture(
        lorenz_drawing(found),
        Control(
            "factor", "Make the weight of row 1 at feature 4 larger (times)",
            tuple(f"{factor:g}" for factor in FACTORS), tuple(f"{factor:.1f} times" for factor in FACTORS), 0, 5,
        ),
        findings,
        "Lorenz curves of four rows below a diagonal; row 1's sinks as one of its weights grows",
        lambda: {"factor": np.array(FACTORS)} | {f"gini_row_{row}": ginis[:, row] for row in range(lessons.ROWS)},
    )  # fmt: skip


GINI = Step(
    "Gini",
    "How concentrated is a row?",
    "Add up a row's scores from lowest to highest: its **Lorenz curve**. How deep it hangs below the diagonal is "
    "the **Gini**: 0, all weights matter alike; near 1, few hold everything.",
    "Gini: how deep the Lorenz curve hangs. 0: every weight matters alike. Near 1: few hold everything.",
    "Enlarge one weight of row 1: seven stay, yet the Gini rises. It is about shares.",
    "Pull the slider slowly. Ask what has happened to the other seven weights (nothing), and why the Gini rose all the "
    "same. Row 0, which hardly minded pruning, hangs deep; row 1, which suffered most, begins almost on the diagonal.",
    Check(
        "Two rows have a Gini of 0.1 and 0.7. Which can lose more weights and keep a high cosine?",
        ("The one with 0.1", "The one with 0.7", "Both the same"),
        1,
        "With 0.7 few weights hold most of the score, and the many others can go. It is not the whole story: Sign and "
        "Optimum say more.",
    ),
    explanations.GINI_FORMULA + explanations.LORENZ_FORMULA,
    _lorenz,
)


@functools.cache
def _optimum() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.three_allocations(target) for target in TARGETS]
    findings = []
    for uniform, trim, optimal in found:
        captured = captured_share(uniform.layer_cosine, trim.layer_cosine, optimal.layer_cosine)
        qualities = ", ".join(
            f"{each.label} {number(each.layer_cosine)}" for each in (uniform, trim, optimal)
        )
        gained = (
            ""
            if captured is None
            else f" TRIM captured {percent(captured, 0)} of the possible gain over uniform."
        )
        findings.append(f"Cosine of the layer: {qualities}.{gained}")
    return Picture(
        masks_drawing(found),
        Control(
            "share",
            "Layer sparsity",
            tuple(map(str, TARGETS)),
            tuple(f"{target:.1%}" for target in TARGETS),
            2,
            rate=1,
        ),
        findings,
        "The same table of scores three times, pruned by uniform, TRIM and the optimum, with each one's cosine",
        lambda: (
            {
                "target": np.repeat(TARGETS, lessons.ROWS),
                "row": np.tile(np.arange(lessons.ROWS), len(TARGETS)),
            }
            | {
                f"pruned_{each.method}": np.concatenate([line[index].counts for line in found])
                for index, each in enumerate(found[0])
            }
        ),
    )


OPTIMUM = Step(
    "Optimum",
    "How far is TRIM from the best?",
    "Is there a best? If best means least **squared error** of the layer's output, it can be computed: take the "
    "weight that adds least, in whatever row; here, the layer's lowest scores. TRIM, a search, gets part of the "
    "way.",
    "The least squared error can be computed. TRIM gets part of the way: it sees directions, not what a weight costs.",
    "At 75% they part: the optimum gives up row 1.",
    "At 50% TRIM captured 71% of what was possible, at 25% and at 75% 57 and 51%. Ask why the optimum gives up row "
    "1 at 75%: no cosine knows how large an output is. Whether the model minds the loss of a small output is "
    "another question; the optimal method can weigh rows by that as well (their sensitivity).",
    Check(
        "At 75% the optimum leaves row 1 one weight of eight, TRIM three. How can the optimum be better?",
        (
            "Row 1's scores, squared, are less than the large ones elsewhere",
            "Row 1 had no output to begin with",
            "The counts must add up to 24",
        ),
        0,
        "Row 1's whole squared output is 7.8; row 0's one large weight alone makes 36. The error counts outputs by "
        "size, a cosine does not.",
    ),
    OPTIMAL_FORMULA,
    _optimum,
)

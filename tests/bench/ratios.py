"""What the benchmarks share: two things measured in turns, and what their ratio allows to say.

The machine is never quiet, but what is measured side by side suffers alike: so each pair gives a
ratio, and their median an interval. A gate is passed only if the whole interval passes it.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

SEED = 7
HEADINGS = f"{'':<44}{'median':>8}  {'95 % interval':<18}{'gate':>7}"


def interval(values: Sequence[float], *, rounds: int = 2000) -> tuple[float, float]:
    """The bootstrapped 95 % interval of the median."""
    chosen = random.Random(SEED)
    medians = sorted(
        statistics.median(chosen.choices(values, k=len(values))) for _ in range(rounds)
    )
    return medians[rounds // 40], medians[-rounds // 40]


def tell(
    label: str, values: Sequence[float], gate: float | None = None, *, at_most: bool = False
) -> bool:
    """Print a line; False if even the better end of the interval misses the gate.

    `gate` is the least that the ratio must be, with `at_most` the most; None: only shown.
    """
    low, high = interval(values)
    middle = statistics.median(values)
    words, missed = ("", ""), False
    if gate is not None:
        worse, better = (-high, -low) if at_most else (low, high)
        bound = -gate if at_most else gate
        missed = better < bound
        verdict = "pass" if worse >= bound else "MISSED" if missed else "inconclusive"
        words = f"{'<=' if at_most else '>='} {gate:g}", verdict
    print(f"{label:<44}{middle:>8.3f}  {f'{low:.3f} to {high:.3f}':<18}{words[0]:>7}  {words[1]}")
    return not missed

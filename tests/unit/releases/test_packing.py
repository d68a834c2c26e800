"""Every verdict against every way of placing, on cases small enough to try them all."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ml_deploy.releases.capacity.packing import Fit, Items, Size, fit, fits


def possible(bins: Sequence[Size], kinds: Sequence[Items]) -> bool:
    """By trying everything."""
    left = [kind for kind in kinds if kind.count]
    if not left:
        return True
    kind, rest = left[0], left[1:]
    fewer = [Items(kind.size, kind.count - 1, kind.bins), *rest]
    return any(
        possible([*bins[:i], tuple(a - b for a, b in zip(bins[i], kind.size, strict=True)), *bins[i + 1 :]], fewer)
        for i in kind.bins
        if fits(kind.size, bins[i])
    )


def test_no_is_never_said_of_what_fits_nor_yes_of_what_does_not() -> None:
    chance, said = random.Random(7), dict.fromkeys(Fit, 0)
    for _ in range(400):
        count = chance.randint(1, 3)
        bins = [(chance.randint(-1, 6), chance.randint(0, 6)) for _ in range(count)]
        kinds = [
            Items((chance.randint(0, 4), chance.randint(1, 4)), chance.randint(0, 3),
                  frozenset(i for i in range(count) if chance.random() < 0.8))
            for _ in range(chance.randint(1, 3))
        ]  # fmt: skip
        verdict, truth = fit(bins, kinds), possible(bins, kinds)
        said[verdict] += 1
        assert verdict is not (Fit.NO if truth else Fit.YES), (bins, kinds)
        assert truth or verdict is Fit.NO, "the search is exact where it is small"
    assert all(said.values()), said

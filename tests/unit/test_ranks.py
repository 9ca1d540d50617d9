"""Mid-ranks and Kendall's W."""

from __future__ import annotations

import math

import pytest

from rapo.ranks import kendall_w, mid_ranks


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        ((1, 1, 3), (1.5, 1.5, 3)),  # places 1 and 2 shared: (1 + 2) / 2
        ((0.2, -7, 4), (2, 1, 3)),
        ((5, 5, 5, 5), (2.5, 2.5, 2.5, 2.5)),  # (1 + 2 + 3 + 4) / 4
        ((9, 2, 2, 2), (4, 2, 2, 2)),  # (1 + 2 + 3) / 3
        ((math.inf, 0, -math.inf), (3, 2, 1)),
        ((3,), (1,)),
        ((), ()),
    ],
)
def test_mid_ranks(scores: tuple[float, ...], ranks: tuple[float, ...]) -> None:
    assert mid_ranks(scores) == ranks


def test_nan_has_no_rank() -> None:
    with pytest.raises(ValueError, match="NaN"):
        mid_ranks([1.0, math.nan])


@pytest.mark.parametrize(
    ("rankings", "w"),
    [
        # The same twice: sums 2, 4, 6 about 4, S = 4 + 0 + 4 = 8; 12 * 8 / (4 * 24) = 1.
        ([(1, 2, 3), (1, 2, 3)], 1.0),
        # Opposite: sums 4, 4, 4, S = 0.
        ([(1, 2, 3), (3, 2, 1)], 0.0),
        # Sums 4, 6, 8 about m (n + 1) / 2 = 6: S = 4 + 0 + 4 = 8; 12 * 8 / (9 * 24) = 4/9.
        ([(1, 2, 3), (2, 1, 3), (1, 3, 2)], 4 / 9),
        # One tie of two in the second: T = 2^3 - 2 = 6. Sums 2.5, 3.5, 6 about 4: S = 2.25 + 0.25 + 4 = 6.5;
        # 12 * 6.5 / (4 * 24 - 2 * 6) = 78 / 84.
        ([(1, 2, 3), (1, 1, 3)], 78 / 84),
    ],
)
def test_kendall_w(rankings: list[tuple[float, ...]], w: float) -> None:
    assert kendall_w(rankings) == pytest.approx(w)


@pytest.mark.parametrize("rankings", [[], [(1, 2, 3)], [(1,), (1,)], [(2, 2), (1, 1)]])
def test_no_agreement_to_speak_of(rankings: list[tuple[float, ...]]) -> None:
    assert kendall_w(rankings) is None

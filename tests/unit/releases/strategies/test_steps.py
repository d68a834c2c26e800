"""Shares of the traffic, and the pods that give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_deploy.errors import InputError
from ml_deploy.releases.strategies import steps


@pytest.mark.parametrize("value", ["10, 50, 100", "10,50,100", "10 50\n100", " 10%, 50%, 100% ", "10\n50\n100\n"])
def test_shares_are_read_as_people_write_them(value: str) -> None:
    assert steps.parse(value) == (10, 50, 100)


@pytest.mark.parametrize(
    "value, told",
    [
        ("", "such as 10, 50, 100"),
        ("ten", "whole percents"),
        ("12.5", "whole percents"),
        ("-1", "whole percents"),
        ("0, 50", "between 1 and 100"),
        ("101", "between 1 and 100"),
        ("50, 10", "must grow"),
        ("50, 50", "must grow"),
    ],
)
def test_what_is_no_list_of_shares(value: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        steps.parse(value)


@pytest.mark.parametrize(
    "total, share, pods",
    [(10, 10, (9, 1)), (10, 50, (5, 5)), (2, 50, (1, 1)), (4, 25, (3, 1)), (3, 33, (2, 1)), (3, 67, (1, 2)),
     (7, 14, (6, 1)), (200, 1, (198, 2)), (8, 13, (7, 1)), (1000, 37, (630, 370))],
)  # fmt: skip
def test_pods_that_give_a_share(total: int, share: int, pods: tuple[int, int]) -> None:
    assert steps.by_replicas(total, share) == pods


@pytest.mark.parametrize(
    "total, share, possible",
    [(4, 10, "25, 50, 75, and 100"), (3, 50, "33, 67, and 100"), (2, 10, "50, and 100"), (30, 50 + 1, "3, 7, … 97")],
)
def test_a_share_that_the_pods_cannot_give_names_those_that_they_can(total: int, share: int, possible: str) -> None:
    with pytest.raises(InputError, match=f"{total} pods cannot give a canary {share} % of the traffic") as caught:
        steps.by_replicas(total, share)
    assert possible in caught.value.hint and "HTTPRoute" in caught.value.hint


def test_one_pod_cannot_be_shared() -> None:
    with pytest.raises(InputError, match=r"^1 pod cannot give a canary 50 %") as caught:
        steps.by_replicas(1, 50)
    assert caught.value.hint.startswith("Change `steps`")


@given(st.integers(2, 500), st.integers(1, 99))
def test_what_is_named_as_possible_is_possible(total: int, share: int) -> None:
    try:
        pods = steps.by_replicas(total, share)
    except InputError:
        assert all(abs(100 * canary / total - share) >= 0.5 for canary in range(1, total))
    else:
        assert sum(pods) == total and min(pods) >= 1 and abs(100 * pods.canary / total - share) <= 0.5


@pytest.mark.parametrize(
    "total, share, pods", [(10, 10, 1), (10, 50, 5), (3, 10, 1), (3, 50, 2), (1, 1, 1), (4, 99, 4)]
)
def test_pods_beside_a_full_stable_version(total: int, share: int, pods: int) -> None:
    assert steps.beside(total, share) == pods


@pytest.mark.parametrize(
    "surge, total, pods", [(None, 10, 3), ("25%", 4, 1), ("50%", 5, 3), (2, 10, 2), (0, 10, 1), ("0%", 9, 1)]
)
def test_pods_in_excess(surge: object, total: int, pods: int) -> None:
    spec = {"strategy": {"rollingUpdate": {"maxSurge": surge}}} if surge is not None else {}
    assert steps.excess({"spec": spec}, total) == pods

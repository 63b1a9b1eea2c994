"""What is to be made, kept and removed, of the machines that there are."""

from __future__ import annotations

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet, compare, in_order, number_of
from cloudburst.providers.provider import Node

PRICES = {"s-2vcpu-4gb": 0.03571, "c-8": 0.25}


def nodes(*said: str) -> list[Node]:
    """``name``, or ``name:state``; each younger than the one before."""
    made = []
    for number, words in enumerate(said):
        name, _, state = words.partition(":")
        made.append(
            Node("s", name, "", identity=str(100 + number), state=state or "active", created_at=float(number))
        )
    return made


@pytest.mark.parametrize(
    ("wanted", "there", "make", "keep", "surplus"),
    [
        (2, (), ["s-master", "s-1", "s-2"], [], []),
        (0, (), ["s-master"], [], []),
        (2, ("s-2", "s-master", "s-1"), [], ["s-master", "s-1", "s-2"], []),
        (2, ("s-master", "s-1:new"), ["s-2"], ["s-master", "s-1:new"], []),
        (3, ("s-master", "s-2"), ["s-1", "s-3"], ["s-master", "s-2"], []),
        (1, ("s-master", "s-1", "s-2", "s-10"), [], ["s-master", "s-1"], ["s-10", "s-2"]),
        (2, ("s-master", "s-1", "s-2:off"), ["s-3"], ["s-master", "s-1"], ["s-2:off"]),
        (1, ("s-master", "s-1:archive", "s-2"), [], ["s-master", "s-2"], ["s-1:archive"]),
        (1, ("s-master", "s-1", "s-1"), [], ["s-master", "s-1"], ["s-1"]),
        (1, ("s-1",), ["s-master"], ["s-1"], []),
        (1, ("s-master", "s-1", "other", "s-01", "s-", "s-1-1"), [], ["s-master", "s-1"], []),
    ],
)
def test_comparison(
    wanted: int, there: tuple[str, ...], make: list[str], keep: list[str], surplus: list[str]
) -> None:
    def said(found: list[Node]) -> list[str]:
        return [node.name if node.state == "active" else f"{node.name}:{node.state}" for node in found]

    to_make, to_keep, too_many = compare(Fleet("s", wanted), nodes(*there), PRICES)
    assert [node.name for node in to_make] == make
    assert said(to_keep) == keep
    assert said(too_many) == surplus


def test_of_machines_with_one_name_the_oldest_is_kept() -> None:
    _, keep, surplus = compare(Fleet("s", 1), nodes("s-master", "s-1", "s-1", "s-1")[::-1], PRICES)
    assert [node.identity for node in keep] == ["100", "101"]
    assert [node.identity for node in surplus] == ["103", "102"]


def test_a_master_that_is_off_is_for_its_owner_to_switch_on() -> None:
    with pytest.raises(ProviderError, match="s-master is off, and it has the queue"):
        compare(Fleet("s", 1), nodes("s-master:off", "s-1"), PRICES)


def test_master_and_nodes_have_their_own_sizes_and_prices() -> None:
    make, _, _ = compare(Fleet("s", 1, size="c-8"), [], PRICES)
    assert [(node.name, node.size, node.price_hourly) for node in make] == [
        ("s-master", "s-2vcpu-4gb", 0.03571),
        ("s-1", "c-8", 0.25),
    ]


def test_numbers_and_their_order() -> None:
    assert [number_of("a-b", name) for name in ("a-b-master", "a-b-7", "a-b", "a-7", "a-b-x")] == [
        0, 7, None, None, None,
    ]  # fmt: skip
    names = [node.name for node in in_order("s", nodes("x", "s-10", "s-2", "s-master"))]
    assert names == ["s-master", "s-2", "s-10", "x"]


@pytest.mark.parametrize(
    ("fleet", "complaint"),
    [
        (Fleet("Floods", 1), "'Floods' cannot name a stack"),
        (Fleet("a_b", 1), "'a_b' cannot name a stack"),
        (Fleet("a-", 1), "'a-' cannot name a stack"),
        (Fleet("x" * 41, 1), "cannot name a stack"),
        (Fleet("s", -1), "-1 compute nodes"),
        (Fleet("s", 1, allow=("1.2.3.4", "1.2.3.4/33")), "'1.2.3.4/33' is no range"),
    ],
)
def test_what_no_account_could_have(fleet: Fleet, complaint: str) -> None:
    with pytest.raises(ProviderError, match=complaint):
        fleet.check()

"""What operators wish of nodes."""

from __future__ import annotations

import json

import pytest
import redis

from cloudburst.rqwire import nodes
from cloudburst.rqwire.nodes import Wishes


def test_wishes_for_a_node_do_not_disturb_each_other(client: redis.Redis) -> None:
    nodes.set_slots(client, "n1", 4)
    nodes.set_draining(client, "n1", True)
    nodes.set_draining(client, "n2", True)

    assert nodes.read_all(client) == {"n1": Wishes(4, True), "n2": Wishes(0, True)}
    assert json.loads(client.hget("cb:nodes", "n1")) == {"slots": 4, "draining": True}

    nodes.set_draining(client, "n1", False)
    nodes.set_draining(client, "n2", False)

    assert nodes.read_all(client) == {"n1": Wishes(4)}
    nodes.set_slots(client, "n1", 0)
    assert not client.exists("cb:nodes")


def test_all_wishes_for_a_node_are_withdrawn_together(client: redis.Redis) -> None:
    nodes.set_slots(client, "n1", 4)

    nodes.forget(client, "n1")

    assert nodes.read(client, "n1") == Wishes()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"slots": "many"}', '{"slots": -1, "draining": 0}'])
def test_what_is_no_wish_wishes_nothing_and_can_be_replaced(client: redis.Redis, text: str) -> None:
    client.hset("cb:nodes", "n1", text)

    assert nodes.read(client, "n1") == Wishes()

    nodes.set_draining(client, "n1", True)
    assert nodes.read(client, "n1").draining

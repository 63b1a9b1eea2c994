"""What the real one checks in firewalls and keys, and what it makes of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from tests.digitalocean.refusals import unprocessable

Json = dict[str, Any]


def check_addresses(addresses: list[str]) -> None:
    for address in addresses:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise unprocessable(f"invalid address {address}") from None


def shown_rules(rules: list[Json]) -> list[Json]:
    """In another order than they were sent, since none is promised; "all" ports are "0"."""

    def shown() -> Iterator[Json]:
        for rule in reversed(rules):
            every = rule["ports"] in {"all", "1-65535"} or rule["protocol"] == "icmp"
            yield {**rule, "ports": "0" if every else rule["ports"]}

    return list(shown())


def md5(public_key: str) -> str:
    """MD5, as colon-separated hexadecimal digits. Raises Refusal for what is no key."""
    words = public_key.split()
    invalid = unprocessable("Key invalid, key should be of the format `type key [comment]`")
    if len(words) < 2 or not re.fullmatch(r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+", words[0]):
        raise invalid
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise invalid from None
    if words[0].encode() not in blob[:30]:
        raise invalid
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")

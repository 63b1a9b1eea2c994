"""Methods and paths of the API: what each takes, which right it needs, who answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from tests.digitalocean import catalogue, schemas
from tests.digitalocean.account import Account

Answer = Callable[[Account, tuple[str, ...], dict[str, str], Any], Any]


@dataclass(frozen=True)
class Route:
    method: str
    path: re.Pattern[str]
    scope: str
    answer: Answer
    """Takes the account, the parts of the path, the query, the body."""
    status: int
    body: schemas.Schema | None
    query: frozenset[str]
    required: frozenset[str]
    pages: str | None
    """The key of the list, of which the answer is a page."""


ROUTES: list[Route] = []

PARTS = {
    "N": r"([1-9]\d*)",
    "ID": r"([0-9a-f-]{36})",
    "KEY": r"(\d+|[0-9a-f]{2}(?::[0-9a-f]{2}){15})",
    "NAME": r"([\w:-]+)",
}
NOTHING_LEFT = 204


def _route(
    line: str,
    scope: str,
    answer: Answer,
    *,
    status: int = 200,
    body: schemas.Schema | None = None,
    query: str = "",
    required: str = "",
    pages: str | None = None,
) -> None:
    method, _, path = line.partition(" ")
    pattern = re.sub(r"\{(\w+)\}", lambda match: PARTS[match[1]], path)
    names = set(query.split()) | set(required.split()) | ({"page", "per_page"} if pages else set())
    ROUTES.append(
        Route(
            method,
            re.compile(f"/v2/{pattern}"),
            scope,
            answer,
            status,
            body,
            frozenset(names),
            frozenset(required.split()),
            pages,
        )
    )


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match and route.method == method:
            return route, match.groups()
    return None


def may_have_body(method: str, path: str) -> bool:
    found = find(method, path)
    return method in {"POST", "PUT", "PATCH"} if found is None else found[0].body is not None


def wrong_query(route: Route, query: str) -> list[str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    wrong = [f"query {name}: there is no such parameter" for name in given if name not in route.query]
    wrong += [f"query {name}: is missing" for name in sorted(route.required) if not given.get(name)]
    wrong += ["a parameter twice in the query"] if len(given) < len(pairs) else []
    for name, most in (("page", 10**9), ("per_page", 200)):
        value = given.get(name, "1")
        if name in route.query and not (value.isascii() and value.isdigit() and 1 <= int(value) <= most):
            wrong.append(f"query {name}: {value!r} is no number from 1 to {most}")
    if "tag_name" in given and ("name" in given or ("type" in given and "type" in route.query)):
        wrong.append("query: either tag_name or name or type")
    if route.path.pattern == "/v2/droplets" and given.get("type", "gpus") not in {"droplets", "gpus"}:
        wrong.append(f"query type: {given['type']!r} is neither droplets nor gpus")
    return wrong


_route("GET account", "account:read", lambda a, _p, _q, _b: a.account())
_route("GET customers/my/balance", "billing:read", lambda a, _p, _q, _b: a.balance())
_route("GET regions", "regions:read", lambda _a, _p, _q, _b: catalogue.regions(), pages="regions")
_route("GET sizes", "sizes:read", lambda _a, _p, _q, _b: catalogue.sizes(), pages="sizes")
_route(
    "GET images", "image:read", lambda _a, _p, _q, _b: catalogue.images(),
    pages="images", query="type private tag_name",
)  # fmt: skip
_route("GET images/([a-z0-9-]+)", "image:read", lambda a, p, _q, _b: a.image(p[0]))

_route(
    "POST droplets", "droplet:create", lambda a, _p, _q, b: a.create_droplets(b),
    status=202, body=schemas.DROPLETS,
)  # fmt: skip
_route(
    "GET droplets", "droplet:read",
    lambda a, _p, q, _b: a.list_droplets(q.get("tag_name"), q.get("name"), q.get("type", "droplets")),
    query="tag_name name type", pages="droplets",
)  # fmt: skip
_route(
    "DELETE droplets", "droplet:delete", lambda a, _p, q, _b: a.delete_droplets(q["tag_name"]),
    status=NOTHING_LEFT, required="tag_name",
)  # fmt: skip
_route("GET droplets/{N}", "droplet:read", lambda a, p, _q, _b: a.get_droplet(*p))
_route(
    "DELETE droplets/{N}", "droplet:delete", lambda a, p, _q, _b: a.delete_droplet(*p), status=NOTHING_LEFT
)
_route(
    "GET droplets/{N}/actions", "droplet:read", lambda a, p, _q, _b: a.droplet_actions(*p), pages="actions"
)
_route(
    "POST droplets/{N}/actions", "droplet:update", lambda a, p, _q, b: a.act(*p, b["type"]),
    status=201, body=schemas.ACTION,
)  # fmt: skip
_route("GET droplets/{N}/actions/{N}", "droplet:read", lambda a, p, _q, _b: a.action(p[1], p[0]))
_route("GET actions/{N}", "actions:read", lambda a, p, _q, _b: a.action(*p))

_route(
    "POST firewalls", "firewall:create", lambda a, _p, _q, b: a.create_firewall(b),
    status=202, body=schemas.FIREWALL,
)  # fmt: skip
_route("GET firewalls", "firewall:read", lambda a, _p, _q, _b: a.list_firewalls(), pages="firewalls")
_route("GET firewalls/{ID}", "firewall:read", lambda a, p, _q, _b: a.get_firewall(*p))
_route(
    "PUT firewalls/{ID}", "firewall:update", lambda a, p, _q, b: a.update_firewall(*p, b),
    body=schemas.FIREWALL,
)  # fmt: skip
_route(
    "DELETE firewalls/{ID}", "firewall:delete", lambda a, p, _q, _b: a.delete_firewall(*p),
    status=NOTHING_LEFT,
)  # fmt: skip
_route(
    "POST firewalls/{ID}/tags", "firewall:update", lambda a, p, _q, b: a.add_firewall_tags(*p, b["tags"]),
    status=NOTHING_LEFT, body=schemas.TAGS,
)  # fmt: skip
_route(
    "DELETE firewalls/{ID}/tags", "firewall:update",
    lambda a, p, _q, b: a.remove_firewall_tags(*p, b["tags"]), status=NOTHING_LEFT, body=schemas.TAGS,
)  # fmt: skip

_route("POST vpcs", "vpc:create", lambda a, _p, _q, b: a.create_vpc(b), status=201, body=schemas.VPC)
_route("GET vpcs", "vpc:read", lambda a, _p, _q, _b: a.list_vpcs(), pages="vpcs")
_route("GET vpcs/{ID}", "vpc:read", lambda a, p, _q, _b: a.get_vpc(*p))
_route("PUT vpcs/{ID}", "vpc:update", lambda a, p, _q, b: a.update_vpc(*p, b), body=schemas.VPC_UPDATE)
_route("PATCH vpcs/{ID}", "vpc:update", lambda a, p, _q, b: a.update_vpc(*p, b), body=schemas.VPC_PATCH)
_route("DELETE vpcs/{ID}", "vpc:delete", lambda a, p, _q, _b: a.delete_vpc(*p), status=NOTHING_LEFT)
_route(
    "GET vpcs/{ID}/members", "vpc:read", lambda a, p, _q, _b: a.vpc_members(*p),
    query="resource_type", pages="members",
)  # fmt: skip

_route(
    "POST account/keys", "ssh_key:create", lambda a, _p, _q, b: a.create_key(b), status=201, body=schemas.KEY
)
_route("GET account/keys", "ssh_key:read", lambda a, _p, _q, _b: a.list_keys(), pages="ssh_keys")
_route("GET account/keys/{KEY}", "ssh_key:read", lambda a, p, _q, _b: a.get_key(*p))
_route(
    "PUT account/keys/{KEY}", "ssh_key:update", lambda a, p, _q, b: a.update_key(*p, b),
    body=schemas.KEY_UPDATE,
)  # fmt: skip
_route(
    "DELETE account/keys/{KEY}", "ssh_key:delete", lambda a, p, _q, _b: a.delete_key(*p), status=NOTHING_LEFT
)

_route(
    "POST tags", "tag:create", lambda a, _p, _q, b: a.create_tag(b["name"]), status=201, body=schemas.NEW_TAG
)
_route("GET tags", "tag:read", lambda a, _p, _q, _b: a.list_tags(), pages="tags")
_route("GET tags/{NAME}", "tag:read", lambda a, p, _q, _b: a.get_tag(*p))
_route("DELETE tags/{NAME}", "tag:delete", lambda a, p, _q, _b: a.delete_tag(*p), status=NOTHING_LEFT)

"""Bodies of requests, as the official OpenAPI specification describes them, and a check that is stricter.

Stricter: a field that is not in the specification, or that is null, is an error here.
"""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
TAG: Schema = {"type": "string", "pattern": r"[a-zA-Z0-9_\-:]{1,255}"}


def array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def record(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


_DROPLET = {
    "region": TEXT,
    "size": TEXT,
    "image": {"anyOf": [TEXT, INTEGER]},
    "ssh_keys": array({"anyOf": [TEXT, INTEGER]}),
    "backups": BOOLEAN,
    "ipv6": BOOLEAN,
    "monitoring": BOOLEAN,
    "tags": array(TAG),
    "user_data": {"type": "string", "maxLength": 65536},
    "vpc_uuid": TEXT,
    "with_droplet_agent": BOOLEAN,
}
_NAME: Schema = {"type": "string", "pattern": r"[a-zA-Z0-9]?[a-z0-9A-Z.\-]*[a-z0-9A-Z]", "maxLength": 255}
_NEEDED = ("region", "size", "image")

DROPLETS: Schema = {
    "anyOf": [
        record(("name", *_NEEDED), name=_NAME, **_DROPLET),
        record(("names", *_NEEDED), names=array(_NAME, minItems=1, maxItems=10), **_DROPLET),
    ]
}

ACTION = record(("type",), type={"type": "string", "enum": ["power_off", "power_on", "shutdown", "reboot"]})

_TARGET = record(
    addresses=array(TEXT),
    droplet_ids=array(INTEGER),
    load_balancer_uids=array(TEXT),
    kubernetes_ids=array(TEXT),
    tags=array(TAG),
)


def _rule(target: str) -> Schema:
    return record(
        ("protocol", "ports", target),
        protocol={"type": "string", "enum": ["tcp", "udp", "icmp"]},
        ports={"type": "string", "pattern": r"all|0|[1-9]\d{0,4}(-[1-9]\d{0,4})?"},
        **{target: _TARGET},
    )


FIREWALL = record(
    ("name",),
    name={"type": "string", "pattern": r"[a-zA-Z0-9][a-zA-Z0-9.\-]+", "maxLength": 255},
    inbound_rules=array(_rule("sources")),
    outbound_rules=array(_rule("destinations")),
    droplet_ids=array(INTEGER, maxItems=10),
    tags=array(TAG, maxItems=5),
)
TAGS = record(("tags",), tags=array(TAG, minItems=1))

_VPC_NAME: Schema = {"type": "string", "pattern": r"[a-zA-Z0-9\-.]+"}
_DESCRIPTION: Schema = {"type": "string", "maxLength": 255}
VPC = record(("name", "region"), name=_VPC_NAME, region=TEXT, description=_DESCRIPTION, ip_range=TEXT)
VPC_UPDATE = record(("name",), name=_VPC_NAME, description=_DESCRIPTION, default=BOOLEAN)
VPC_PATCH = record(name=_VPC_NAME, description=_DESCRIPTION, default=BOOLEAN)

KEY = record(("name", "public_key"), name=TEXT, public_key=TEXT)
KEY_UPDATE = record(name=TEXT)
NEW_TAG = record(("name",), name=TAG)


def faults(value: object, schema: Schema, where: str = "body") -> list[str]:
    """What is wrong with the value; nothing, if it is as the schema says."""
    if "anyOf" in schema:
        found = [faults(value, one, where) for one in schema["anyOf"]]
        return min(found, key=len)
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] != "boolean" and value is True):
        return [f"{where}: {value!r} is no {schema['type']}"]
    return list(_inside(value, schema, where))


def _inside(value: Any, schema: Schema, where: str) -> list[str]:
    found = []
    if isinstance(value, str):
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{where}: {value!r} is none of {schema['enum']}")
        if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
            found.append(f"{where}: {value!r} does not match {schema['pattern']}")
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"{where}: longer than {schema['maxLength']}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{where}: {len(value)} items")
        for index, item in enumerate(value):
            found += faults(item, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        found += [f"{where}.{name}: is missing" for name in schema["required"] if name not in value]
        for name, item in value.items():
            if name in schema["properties"]:
                found += faults(item, schema["properties"][name], f"{where}.{name}")
            else:
                found.append(f"{where}.{name}: there is no such field")
    return found

"""The tables of docs/security.md name every door that the configuration opens, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from cloudburst import names
from cloudburst.commands import firewall
from cloudburst.providers.digitalocean.network import PUBLIC_PORTS
from cloudburst.rqwire import acl

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
COMPOSE = (ROOT / "stack" / "docker-compose.yml").read_text()
GATEWAY = ROOT / "images" / "gateway"
OPEN = ("everybody", "as above")


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table under that heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def in_code(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def server(port: str) -> str:
    """What nginx is told about that port, with the files that it includes."""
    text = (GATEWAY / "nginx.conf").read_text().split(f"listen {port}")[1].split("\n  server {")[0]
    for name in re.findall(r"include (?:/etc/nginx/|/tmp/)?(influx|grafana)\.conf;", text):
        text += (GATEWAY / f"{name}.conf").read_text()
    return text


def locations(port: str) -> set[str]:
    """Paths that lead somewhere, without those that nginx sends itself to."""
    found = set()
    for kind, path, body in re.findall(r"location (=|~|)\s*(/\S*|\^\S+) \{([^}]*)", server(port)):
        if "internal" in body or (path == "/" and not kind):
            continue
        several = re.search(r"\^/\(([\w/$|]+)\)", path) if kind == "~" else None
        names_ = several[1].split("|") if several else [path[1:]]
        found |= {"/" + name.rstrip("$/") for name in names_}
    return found


def test_the_gateways_paths() -> None:
    told = {path for row in table("The gateway's paths")[:-1] for path in in_code(row[0])}

    assert locations("8443 ssl") == told
    assert locations("8086") == {"/api/v2", "/api/v2/write", "/query", "/ping", "/gateway/health", "/health"}
    for port in ("8443 ssl", "8086"):
        (rest,) = re.findall(r"location / \{([^}]*)", server(port))
        assert "return 404" in rest


def test_what_a_token_of_the_database_may_ask() -> None:
    (rules,) = re.findall(
        r"map .* \$influx_refusal \{(.*?)\}", (GATEWAY / "nginx.conf").read_text(), re.DOTALL
    )
    asked = re.findall(r'"?(.*?)"? "";', rules)
    rights = {path: row[2:] for row in table("The gateway's paths") for path in in_code(row[0])}

    assert [one.strip().strip('"') for one in asked] == [
        "~^(read|write) (GET|HEAD) /",
        "~^read POST /(?!api/v2/(setup|sign))",
        "write POST /api/v2/write",
    ]
    for path in ("/api/v2/write", "/api/v2", "/query", "/ping"):
        assert "of the database's tokens" in rights[path][0]
    assert rights["/api/v2/write"][1] == "POST of points with the one for writing"
    assert rights["/query"] == rights["/api/v2"]
    assert "GET with either, POST with the one for reading" in rights["/query"][1]
    # What is asked has the path that was looked at, and a token of its own.
    role = (GATEWAY / "influx-role.conf").read_text()
    assert re.findall(r"proxy_pass http://\$influx:8086(\S*);", role) == ["$influx_path$is_args$args"]
    assert "proxy_set_header Authorization $influx_authorization;" in role
    for path in GATEWAY.glob("*.conf"):
        assert "influx-token" not in path.read_text().replace("influx-tokens.conf", ""), path


def test_ports() -> None:
    rows = table("Ports")
    told = {
        (protocol, int(port), row[2].startswith(OPEN))
        for row in rows
        for protocol, port in re.findall(r"(tcp|udp) (\d+)", row[0])
    }
    published = {int(port) for port in re.findall(r'published: "\$\{\w+:-(\d+)\}"', COMPOSE)}

    assert len(published) == COMPOSE.count("published:")
    assert {int(port) for port in PUBLIC_PORTS} == published | {22}
    assert {(protocol, port) for protocol, port, is_open in told if is_open} == {
        ("tcp", int(port)) for port in PUBLIC_PORTS
    }
    assert {(protocol, port) for protocol, port, is_open in told if not is_open} == set(
        firewall.BETWEEN_NODES
    )
    for port in (names.PORT_QUEUE, names.PORT_FILESTORE, names.PORT_INFLUX, names.PORT_QUEUE_DASH):
        assert str(port) in PAGE.split("A local stack listens")[1].split(")")[0]


def test_who_is_on_the_databases_network_and_that_nobody_has_dockers_socket() -> None:
    services = COMPOSE.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
    networks = dict(
        re.findall(r"^  ([a-z-]+):\n(?:    .*\n)*?    networks: \[([^\]]*)\]", services, re.MULTILINE)
    )

    assert {name for name, on in networks.items() if "data" in on} == {"influx", "grafana", "gateway"}
    assert {name for name, on in networks.items() if "stack" in on} == set(networks) - {"influx", "grafana"}
    assert len(networks) == len(re.findall(r"^  [a-z-]+:\n    image:", services, re.MULTILINE))
    assert "docker.sock" not in COMPOSE


def test_redis_users() -> None:
    assert [in_code(row[0]) for row in table("Redis' users")] == [[role] for role in acl.ROLES]
    assert "user default off" in acl.users_file({})

"""InfluxDB 2's API in front of InfluxDB 1.6, which Debian packages: what a stack uses, in the words of 2.9.1.

Set-up by the image's variables, buckets, authorizations, writes, InfluxQL; of Flux a recorded result.
`api.py PORT URL STATE`: listens at PORT, asks the 1.6 at URL, keeps what it knows in the file STATE.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FLUX = (Path(__file__).parent / "flux.csv").read_bytes()
HEALTH = {"name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": []}
UNITS = {"ns": "n", "us": "u", "ms": "ms", "s": "s"}
CHANGING = re.compile(r"(^|;)\s*(?!select\b|show\b|explain\b)\w", re.IGNORECASE)
WEEK_S = 604800


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.said = {"code": code, "message": message}


class State:
    """What the database has: its organization, buckets, and authorizations with digests of their tokens."""

    def __init__(self, path: Path, influx1: str) -> None:
        self.path = path
        self.influx1 = influx1
        self.lock = threading.Lock()
        if path.exists():
            self.kept: dict[str, Any] = json.loads(path.read_text())
            return
        self.kept = {"org": secrets.token_hex(8), "buckets": [], "authorizations": []}
        token = Path(os.environ["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE"]).read_text().strip()
        self.authorize({"description": "cloudburst's Token", "permissions": []}, token)
        self.add(os.environ["DOCKER_INFLUXDB_INIT_BUCKET"], 0)
        self.operator["operator"] = True
        self.save()

    @property
    def operator(self) -> dict[str, Any]:
        return self.kept["authorizations"][0]

    def save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.kept))
        new.replace(self.path)

    def authorize(self, wanted: dict[str, Any], token: str = "") -> dict[str, Any]:
        token = token or secrets.token_urlsafe(64) + "=="
        made = {"id": secrets.token_hex(8), "status": "active", **wanted, "token": digest(token)}
        self.kept["authorizations"].append(made)
        self.save()
        return made | {"token": token}

    def add(self, name: str, keep_s: int) -> dict[str, Any]:
        if any(one["name"] == name for one in self.kept["buckets"]):
            raise Refusal(422, "conflict", f"bucket with name {name} already exists")
        url = f"{self.influx1}/query?q=" + urllib.parse.quote(f'CREATE DATABASE "{name}"')
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30)
        rule = {"type": "expire", "everySeconds": keep_s, "shardGroupDurationSeconds": WEEK_S}
        bucket = {"id": secrets.token_hex(8), "orgID": self.kept["org"], "type": "user", "name": name}
        self.kept["buckets"].append(bucket | {"retentionRules": [rule]})
        self.save()
        return self.kept["buckets"][-1]


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self.asked = dict(urllib.parse.parse_qsl(url.query))
        self.body = self._read()
        parts = [part for part in url.path.split("/") if part]
        try:
            status, said = self._said(parts)
        except Refusal as refusal:
            status, said = refusal.status, refusal.said
        except urllib.error.HTTPError as error:
            # What 1.6 says of points is what 2 says, in another envelope.
            message = json.loads(error.read() or b"{}").get("error", "")
            status, said = {400: 400, 404: 404}.get(error.code, 500), {"code": "invalid", "message": message}
        kind = "text/csv; charset=utf-8" if isinstance(said, bytes) else "application/json; charset=utf-8"
        data = said if isinstance(said, bytes) else json.dumps(said).encode() if status != 204 else b""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Influxdb-Version", "v2.9.1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = answer

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return body

    def _said(self, parts: list[str]) -> tuple[int, Any]:
        if parts in (["health"], ["ping"]):
            return (200, HEALTH) if parts == ["health"] else (204, {})
        self.role = self._role()
        if parts == ["query"]:
            return self._influxql()
        if parts[:2] != ["api", "v2"]:
            raise Refusal(404, "not found", "path not found")
        name, rest = "".join(parts[2:3]), parts[3:]
        known = {"write": self._write, "query": self._flux, "delete": self._delete}
        if name in known and not rest:
            if self.command != "POST":
                raise Refusal(405, "method not allowed", "allow: OPTIONS, POST")
            return known[name]()
        with self.state.lock:
            if name == "buckets":
                return self._buckets(rest)
            if name == "authorizations":
                return self._authorizations(rest)
        raise Refusal(404, "not found", "path not found")

    def _role(self) -> dict[str, Any]:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        for one in self.state.kept["authorizations"]:
            if scheme.lower() in ("token", "bearer") and one["token"] == digest(token):
                return one
        raise Refusal(401, "unauthorized", "unauthorized access")

    def _may(self, action: str, bucket: dict[str, Any]) -> bool:
        granted = [(one["action"], one["resource"].get("id")) for one in self.role["permissions"]]
        return bool(self.role.get("operator")) or (action, bucket["id"]) in granted

    def _need_operator(self, what: str) -> None:
        if not self.role.get("operator"):
            raise Refusal(401, "unauthorized", f"{what} is unauthorized")

    def _bucket(self, name: str) -> dict[str, Any]:
        for bucket in self.state.kept["buckets"]:
            if name in (bucket["name"], bucket["id"]):
                return bucket
        raise Refusal(404, "not found", f'bucket "{name}" not found')

    def _write(self) -> tuple[int, Any]:
        bucket = self._bucket(self.asked.get("bucket", ""))
        if not self._may("write", bucket):
            raise Refusal(403, "forbidden", "insufficient permissions for write")
        unit = UNITS[self.asked.get("precision", "ns")]
        query = urllib.parse.urlencode({"db": bucket["name"], "precision": unit})
        request = urllib.request.Request(f"{self.state.influx1}/write?{query}", self.body)
        if "Content-Encoding" in self.headers:
            request.add_header("Content-Encoding", self.headers["Content-Encoding"])
        urllib.request.urlopen(request, timeout=60)
        return 204, {}

    def _influxql(self) -> tuple[int, Any]:
        asked = self.asked | (
            dict(urllib.parse.parse_qsl(self.body.decode())) if self.command == "POST" else {}
        )
        text, name = asked.get("q", ""), asked.get("db", "")
        if not self.role.get("operator"):
            error = ""
            if CHANGING.search(text):
                error = "insufficient permissions"
            elif re.search(r"\binto\b", text, re.IGNORECASE) and not re.search(r"['\"/].*into", text, re.I):
                error = "not implemented: SELECT INTO"
            elif name and not any(
                one["name"] == name and self._may("read", one) for one in self.state.kept["buckets"]
            ):
                error = f"database not found: {name}"
            if error:
                return 200, {"results": [{"statement_id": 0, "error": error}]}
        request = urllib.request.Request(
            f"{self.state.influx1}/query", urllib.parse.urlencode(asked).encode()
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return 200, json.loads(answer.read())

    def _flux(self) -> tuple[int, Any]:
        text = self.body.decode()
        if "json" in self.headers.get("Content-Type", ""):
            text = json.loads(text)["query"]
        if "to(" in text.replace(" ", ""):
            message = "failed to initialize execute state: user not authorized to write"
            raise Refusal(403, "forbidden", message)
        asked = re.search(r'bucket:\s*"([^"]*)"', text)
        name = asked[1] if asked else ""
        if not any(one["name"] == name and self._may("read", one) for one in self.state.kept["buckets"]):
            message = f'failed to initialize execute state: could not find bucket "{name}"'
            raise Refusal(404, "not found", message)
        urllib.request.urlopen(
            f"{self.state.influx1}/query?db={name}&q=SHOW+MEASUREMENTS+LIMIT+1", timeout=60
        )
        return 200, FLUX

    def _delete(self) -> tuple[int, Any]:
        bucket = self._bucket(self.asked.get("bucket", ""))
        if not self._may("write", bucket):
            raise Refusal(403, "forbidden", "insufficient permissions to delete")
        query = urllib.parse.urlencode({"db": bucket["name"], "q": "DROP SERIES FROM /.*/"})
        urllib.request.urlopen(f"{self.state.influx1}/query", query.encode(), timeout=60)
        return 204, {}

    def _buckets(self, rest: list[str]) -> tuple[int, Any]:
        prefix = f"orgs/{self.state.kept['org']}/buckets"
        if not rest and self.command == "POST":
            self._need_operator(f"write:{prefix}")
            said = json.loads(self.body)
            rules = said.get("retentionRules") or [{}]
            return 201, self.state.add(said["name"], rules[0].get("everySeconds", 0))
        if not rest:
            names = self.asked.get("name")
            there = [one for one in self.state.kept["buckets"] if names in (None, one["name"])]
            there = there[: min(100, int(self.asked.get("limit", 20)))]  # whoever may see them
            return 200, {"buckets": [one for one in there if self._may("read", one)]}
        bucket = self._bucket(rest[0])
        action = "read" if self.command == "GET" else "write"
        if not self._may(action, bucket):
            raise Refusal(401, "unauthorized", f"{action}:{prefix}/{bucket['id']} is unauthorized")
        if self.command == "PATCH":
            bucket["retentionRules"][0].update(json.loads(self.body)["retentionRules"][0])
            self.state.save()
        if self.command == "DELETE":
            self.state.kept["buckets"].remove(bucket)
            self.state.save()
        return 200, bucket

    def _authorizations(self, rest: list[str]) -> tuple[int, Any]:
        there = self.state.kept["authorizations"]
        prefix = f"orgs/{self.state.kept['org']}/authorizations"
        if not rest and self.command == "GET":
            seen = [one | {"token": ""} for one in there] if self.role.get("operator") else []
            return 200, {"authorizations": seen}
        action = "read" if self.command == "GET" else "write"
        self._need_operator("/".join([f"{action}:{prefix}", *rest]))
        if not rest:
            return 201, self.state.authorize(json.loads(self.body))
        for one in there:
            if one["id"] == rest[0]:
                if self.command == "DELETE":
                    there.remove(one)
                    self.state.save()
                    return 204, {}
                return 200, one | {"token": ""}
        raise Refusal(404, "not found", "authorization not found")

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    port, influx1, path = sys.argv[1:]
    Answer.state = State(Path(path), influx1)
    server = ThreadingHTTPServer(("", int(port)), Answer)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()

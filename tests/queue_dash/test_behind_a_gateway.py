"""queue-dash behind a real nginx, under /queue and a password, as the gateway of a swarm has it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from tests.conftest import RedisServer, free_port
from tests.influx import program
from tests.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
USER = ("cloudburst", "a-password")

_NGINX = """
daemon off;
user root root;
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map "" $upgrade {{ default ""; }}
    map "" $connection_upgrade {{ default ""; }}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


def gateways_own(directory: Path, dash_port: int) -> str:
    """What the gateway's image says about /queue, with this machine's files and ports."""
    images = ROOT / "images" / "gateway"
    text = (images / "nginx.conf").read_text()
    found = re.search(r"location = /queue \{.*?\n    location /queue/ \{.*?\n    \}\n", text, re.DOTALL)
    assert found, "the gateway has no /queue any more"
    own = found[0]
    for its, ours in (
        ("/run/secrets/users.htpasswd", f"{directory}/users"),
        ("/etc/nginx/proxy.conf", str(images / "proxy.conf")),
        ("http://$queue_dash:9181", f"http://127.0.0.1:{dash_port}"),
    ):
        assert its in own
        own = own.replace(its, ours)
    return own


@pytest.fixture
def gateway(redis_server: RedisServer, tmp_path: Path) -> Iterator[str]:
    """URL of the gateway."""
    dash_port, port = free_port(), free_port()
    settings = {
        "CLOUDBURST_DASH_PORT": str(dash_port),
        "CLOUDBURST_DASH_HOST": "0.0.0.0",
        "CLOUDBURST_DASH_PATH": "/queue",
        "CLOUDBURST_REDIS_URL": redis_server.url,
    }
    password = base64.b64encode(hashlib.sha1(USER[1].encode()).digest()).decode()
    (tmp_path / "users").write_text(f"{USER[0]}:{{SHA}}{password}\n")
    locations = gateways_own(tmp_path, dash_port)
    (tmp_path / "nginx.conf").write_text(_NGINX.format(directory=tmp_path, port=port, locations=locations))
    log = (tmp_path / "log").open("ab")
    processes = [
        subprocess.Popen([program("nginx"), "-c", str(tmp_path / "nginx.conf")], stderr=log),
        subprocess.Popen(
            [sys.executable, "-P", "-m", "cloudburst.queue_dash"], env=os.environ | settings, stderr=log
        ),
    ]
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/queue/"), 20, "queue-dash to answer")
    yield url
    for process in processes:
        process.terminate()
        process.wait()
    log.close()


def answers(url: str) -> bool:
    try:
        return requests.get(url, auth=USER, timeout=5).ok
    except requests.ConnectionError:
        return False


def fill(redis_server: RedisServer) -> list[str]:
    """Jobs of each kind, written as JSON and as pickles; their ids."""
    client = redis_server.client()
    ids = []
    for serializer in (JSONSerializer, None):
        queue = Queue(connection=client, serializer=serializer)
        for name, argument in (("builtins.dict", {"seed": 1}), ("builtins.int", "no number")):
            ids.append(queue.enqueue(name, argument).id)
        SimpleWorker([queue], connection=client, serializer=serializer).work(burst=True)
        ids.append(queue.enqueue("builtins.dict", {"seed": 2}).id)
    return ids


def test_nobody_gets_in_without_the_password(gateway):
    assert requests.get(f"{gateway}/queue/", timeout=5).status_code == 401
    assert requests.get(f"{gateway}/queue/", auth=("cloudburst", "x"), timeout=5).status_code == 401


def test_the_short_address_leads_there(gateway):
    answer = requests.get(f"{gateway}/queue", auth=USER, timeout=5, allow_redirects=False)

    assert answer.status_code == 301
    assert answer.headers["Location"].endswith("/queue/")


def test_every_page_and_all_that_it_refers_to_is_there(gateway, redis_server):
    jobs = fill(redis_server)
    pages = ["", "0/view/workers", "0/view/jobs", "0/data/queues.json", "0/data/workers.json"]
    pages += [f"0/data/jobs/default/{name}/20/asc/1.json" for name in ("queued", "finished", "failed")]
    pages += [f"0/view/job/{job}" for job in jobs] + [f"0/data/job/{job}.json" for job in jobs]
    seen: dict[str, int] = {}
    for page in pages:
        url = f"{gateway}/queue/{page}"
        answer = requests.get(url, auth=USER, timeout=5)
        seen[page] = answer.status_code
        for target in re.findall(r'(?:href|src)="([^"#]+)"', answer.text if ".json" not in page else ""):
            place = urljoin(url, target)
            is_page = "<%" not in target and "compact" not in target  # templates, and a button that is hidden
            if is_page and place.startswith(gateway) and place not in seen:
                seen[place] = requests.get(place, auth=USER, timeout=5).status_code
                assert place.startswith(f"{gateway}/queue"), f"{page} refers to {target}"

    assert set(seen.values()) == {200}, {page: code for page, code in seen.items() if code != 200}
    assert any("/static/" in place for place in seen)


def test_nothing_can_be_changed_through_it(gateway, redis_server):
    job = Queue(connection=redis_server.client()).enqueue("builtins.dict")

    answer = requests.post(f"{gateway}/queue/job/{job.id}/delete", auth=USER, timeout=5)

    assert answer.status_code == 403
    assert job.exists(job.id, connection=redis_server.client())


@pytest.mark.parametrize(
    "page",
    [
        "0/data/jobs/default/nonsense/10/asc/1.json",
        "0/data/jobs/default/queued/0/asc/1.json",
        "0/data/jobs/default/queued/x/asc/1.json",
        "0/data/jobs/default/queued/10/asc/x.json",
        "7/view/jobs",
        "7/data/queues.json",
        "0/data/job/%3C.json",
        "0/view/job/gone",
        "nonsense",
    ],
)
def test_an_address_that_makes_no_sense_is_404(gateway, page):
    assert requests.get(f"{gateway}/queue/{page}", auth=USER, timeout=5).status_code == 404

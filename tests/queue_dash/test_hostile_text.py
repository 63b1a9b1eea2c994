"""What jobs, queues and workers say is text in queue-dash, never HTML: as served, and in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import requests
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer

from cloudburst.queue_dash.app import DESCRIBED
from tests.conftest import RedisServer
from tests.queue_dash.browser import Browser
from tests.queue_dash.started import queue_dash

HOSTILE = """</pre></script><img src=x onerror="document.title='ran'">'"><%= 1 %>"""
QUEUE = "');document.title='ran';('<img src=x onerror=document.title=1>"
WIDTH, HEIGHT = 1000, 800
LONG = "/var/lib/cloudburst/payloads/" + "0123456789abcdef" * 50


@pytest.fixture(scope="module")
def dash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a queue-dash whose jobs, queues and workers are hostile."""
    redis_server = RedisServer(tmp_path_factory.mktemp("redis"))
    redis_server.start()
    fill(redis_server)
    with queue_dash(CLOUDBURST_REDIS_URL=redis_server.url) as url:
        yield url
    redis_server.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), WIDTH, HEIGHT) as found:
        yield found


def fill(redis_server: RedisServer) -> None:
    client = redis_server.client()
    for number, name in enumerate(("default", QUEUE)):
        queue = Queue(name, connection=client, serializer=JSONSerializer)
        queue.enqueue(
            "builtins.int", HOSTILE, description=HOSTILE, meta={HOSTILE: HOSTILE}, job_id=f"failed-{number}"
        )
        queue.enqueue("builtins.str", HOSTILE, description=HOSTILE, job_id=f"finished-{number}")
        queue.enqueue("builtins.str", LONG, job_id=f"long-{number}")
        queue.enqueue("builtins.int", LONG, job_id=f"traced-{number}")
        SimpleWorker([queue], connection=client, serializer=JSONSerializer).work(burst=True)
        queue.enqueue("builtins.str", HOSTILE, description=HOSTILE, job_id=f"queued-{number}")
    job = Job.fetch("traced-0", connection=client, serializer=JSONSerializer)
    frame = f'  File "{LONG}/model.py", line 1, in work\n    return work(x)\n'
    Result.create_failure(job, 500, f"Traceback:\n{frame * 30}ValueError: the pump has no curve")
    # As workers of ours write the jobs of ensembles.
    data = json.dumps(["worker.work", None, [{"seed": 1, "text": HOSTILE}], {}])
    client.hset(
        "rq:job:e-0",
        mapping={"data": data, "status": "queued", "origin": "default", "created_at": "2026-01-01T00:00:00Z"},
    )
    client.rpush("rq:queue:default", "e-0")
    client.hset(
        "rq:worker:w",
        mapping={
            "state": "busy",
            "current_job": "e-0",
            "queues": QUEUE,
            "version": HOSTILE,
            "python_version": HOSTILE,
        },
    )
    client.sadd("rq:workers", "rq:worker:w", f"rq:worker:{HOSTILE}")
    client.hset(f"rq:worker:{HOSTILE}", mapping={"state": "idle", "queues": HOSTILE})


PAGES = {
    "/": "default",
    "/0/view/workers": "worker.work",
    "/0/view/jobs/default/queued/20/asc/1": "worker.work",
    "/0/view/jobs/default/failed/20/asc/1": "invalid literal",
    "/0/view/jobs/default/finished/20/asc/1": "finished-0",
    f"/0/view/jobs/{quote(QUEUE, safe='')}/queued/20/asc/1": "queued-1",
    "/0/view/job/failed-0": "invalid literal",
    "/0/view/job/finished-0": "<img src=x",
    "/0/view/job/e-0": "worker.work",
}
"""What each of them shows when its scripts have run."""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_its_own_scripts_alone_and_escapes_all_that_they_put_in(dash: str, page: str) -> None:
    answer = requests.get(dash + page, timeout=5)

    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    (nonce,) = re.findall("'nonce-([^']+)'", policy["script-src"])
    assert (policy["default-src"], "unsafe-inline" in policy["script-src"]) == ("'none'", False)
    assert "<%=" not in answer.text
    assert "<img" not in answer.text
    scripts = re.findall("<script[^>]*>", answer.text)
    assert scripts
    for script in scripts:
        assert f'nonce="{nonce}"' in script or 'type="text/template"' in script
    assert nonce not in requests.get(dash + page, timeout=5).text


def test_a_name_in_a_script_does_not_end_its_text(dash: str) -> None:
    page = next(page for page in PAGES if "document.title" in page)

    text = requests.get(dash + page, timeout=5).text

    assert "val('" not in text.replace("val('')", "")
    assert QUEUE not in text


def test_answers_that_are_no_pages_are_no_html(dash: str) -> None:
    for page in ("/0/view/job/gone", "/7/view/jobs", "/0/data/job/failed-0.json", "/0/data/queues.json"):
        answer = requests.get(dash + page, timeout=5)
        assert answer.headers["Content-Type"].split(";")[0] in {"text/plain", "application/json"}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("page", PAGES)
def test_in_a_browser_nothing_of_it_runs_and_all_is_shown(dash: str, browser: Browser, page: str) -> None:
    browser.open(dash + page, PAGES[page])

    assert browser.evaluate("document.title") == "RQ dashboard"
    assert browser.evaluate("document.images.length") == 0
    attributes = browser.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => /^on/.test(n))"
    )
    assert attributes == []


def test_long_texts_leave_columns_in_view_and_take_a_few_lines(dash: str, browser: Browser) -> None:
    for registry, shown in (("failed", "ValueError: the pump has no curve"), ("finished", "long-0")):
        browser.open(f"{dash}/0/view/jobs/default/{registry}/20/asc/1", shown)

        width, outer = browser.evaluate(
            "var box = document.getElementById('jobs').parentElement; [box.scrollWidth, box.clientWidth]"
        )
        assert width <= outer, "a column is out of view"
        rows = browser.evaluate("[...document.querySelectorAll('#jobs tbody tr')].map(r => r.offsetHeight)")
        assert max(rows) < HEIGHT / 3

    browser.open(f"{dash}/0/view/job/traced-0", "the pump has no curve")
    assert browser.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert browser.evaluate("document.querySelector('pre.exc_info').offsetHeight") <= 0.6 * HEIGHT


def test_a_job_without_a_description_is_described_by_its_call_in_a_line(dash: str) -> None:
    ours, stock = (
        requests.get(f"{dash}/0/data/job/{job}.json", timeout=5).json()["description"]
        for job in ("e-0", "long-0")
    )

    assert ours.startswith("worker.work({'seed': 1, ")
    assert stock.startswith("builtins.str('/var/lib/cloudburst/payloads/0123")
    assert len(stock) < 2 * DESCRIBED

"""Chromium without a window, asked what a page looks like (its DevTools protocol, over a pair of pipes)."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.influx import program
from tests.wait import wait_until


class Browser:
    """One page of that many pixels; its profile is kept in a directory of the test."""

    def __init__(self, directory: Path, width: int, height: int) -> None:
        ours, self._asked = os.pipe()
        self._answers, theirs = os.pipe()
        # The protocol is at the descriptors 3 and 4.
        script = 'exec "$@" 3<&"$ASKED" 4>&"$ANSWERS"'
        argv = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        argv += [f"--user-data-dir={directory}", f"--window-size={width},{height}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *argv],
            env=os.environ | {"ASKED": str(ours), "ANSWERS": str(theirs)},
            pass_fds=(ours, theirs),
            stderr=subprocess.DEVNULL,
        )
        os.close(ours)
        os.close(theirs)
        self._numbers, self._rest, self._session = count(1), b"", ""
        (target,) = (one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._asked)
        os.close(self._answers)

    def open(self, url: str, shown: str) -> None:
        """Go there and wait until that text is shown."""
        self._ask("Page.navigate", url=url)
        wait_until(lambda: shown in self.evaluate("document.body ? document.body.innerText : ''"), 20, shown)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page's JavaScript."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._asked, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                data = os.read(self._answers, 1 << 16)
                assert data, "the browser has ended"
                self._rest += data
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

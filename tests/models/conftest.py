"""A small stack whose payloads find the packages of the tests' own environment: none is installed."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.conftest import MiniStack

MODELS = Path(__file__).resolve().parents[2] / "benchmarks" / "models"

EMPTY = {"Pipfile": "[packages]\n", "worker.py": "def work(params):\n    return None\n"}


def write(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


class ModelStack(MiniStack):
    """Its environment, which all payloads without packages share, sees the packages of the tests."""

    _worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        super().start()
        self.serve(slots=1)
        digest = self.upload(write(self.directory / "empty", EMPTY))
        (record,) = self.run("worker.work", {}, digest=digest)
        assert record.state == "finished", record.error
        (site,) = (self.directory / "models").glob("environments/*/.venv/lib/python*/site-packages")
        (site / "tests.pth").write_text(sysconfig.get_path("platlib") + "\n")

    def serve(self, slots: int) -> None:
        """Have one worker of so many slots, in the place of the one before."""
        if self._worker is not None:
            self._worker.terminate()
            self._worker.wait(30)
        self._worker = self.worker(slots=slots, state="models")

    def payload(self, name: str, source: str, isolation: str, **files: str) -> str:
        """Digest of a payload with that module ``worker``."""
        settings = f'isolation = "{isolation}"\n' + files.pop("settings", "")
        directory = self.directory / f"{name}-{isolation}-{len(self._uploaded)}"
        texts = {**EMPTY, "worker.py": source, "cloudburst.toml": settings, **files}
        return self.upload(write(directory, texts))

    def model(self, name: str, isolation: str) -> str:
        """Digest of one of benchmarks/models as a payload."""
        files = {path.name: path.read_text() for path in (MODELS / "table.csv", MODELS / "model.inp")}
        return self.payload(name, (MODELS / f"{name}.py").read_text(), isolation, **files)


@pytest.fixture(scope="module")
def models() -> Iterator[ModelStack]:
    """Services and one worker of two slots."""
    # A short path: sockets of multiprocessing lie below it, and these may have 107 bytes.
    stack = ModelStack(Path(tempfile.mkdtemp(prefix="cb-")))
    try:
        stack.start()
        stack.serve(slots=2)
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(stack.directory, ignore_errors=True)

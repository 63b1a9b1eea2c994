"""One node as it ran originally: ``original_node.py WORKER_ZIP_URL TOKEN REDIS_URL RQ_DIR``.

In an empty directory: get the payload, ``pipenv install``, and become ``rq worker``. rq is in RQ_DIR, since
the example's Pipfile does not name it; an image brought it along.
"""

import io
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

url, token, redis_url, rq_dir = sys.argv[1:]

request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
with urllib.request.urlopen(request) as answer:
    zipfile.ZipFile(io.BytesIO(answer.read())).extractall()
subprocess.run([sys.executable, "-m", "pipenv", "install"], check=True, stdin=subprocess.DEVNULL)
python = Path.cwd() / ".venv" / "bin" / "python"
os.environ["PYTHONPATH"] = f"{rq_dir}:{Path.cwd()}"
os.execv(python, [str(python), "-m", "rq.cli", "worker", "-q", "--url", redis_url, "default"])

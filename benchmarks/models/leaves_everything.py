"""Changes all that a process has, as scripts do, and says what it found before."""

import decimal
import locale
import logging
import os
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np


def found():
    umask = os.umask(0)
    os.umask(umask)
    return {
        "variables": sorted(set(os.environ) & {"MODEL_MODE", "OMP_NUM_THREADS_OLD"}),
        "umask": umask,
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": len(warnings.filters),
        "root": [logging.getLogger().level, len(logging.getLogger().handlers)],
        "numpy": np.geterr(),
        "decimals": decimal.getcontext().prec,
        "recursion": sys.getrecursionlimit(),
        "timeout": socket.getdefaulttimeout(),
        "terminate": str(signal.getsignal(signal.SIGTERM)),
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "path": len(sys.path),
        "here": os.listdir(),
    }


START = found()


def work(params):
    before = found()
    changed = sorted(name for name in before if before[name] != START[name])
    os.environ["MODEL_MODE"] = "fast"
    os.umask(0o077)
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if before["locale"] == "C" else "C")
    warnings.simplefilter("error")
    logging.basicConfig(filename="run.log", level=logging.DEBUG, force=True)
    logging.debug("run %d", params["n"])
    np.seterr(all="raise")
    decimal.getcontext().prec = 5
    sys.setrecursionlimit(5000)
    socket.setdefaulttimeout(3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(1)
    sys.path.append("/nowhere")
    subprocess.Popen(["sleep", "473"], start_new_session=True)
    logged = Path("run.log").read_text().count("\n")
    os.chdir("/")
    return {"changed": changed, "logged": logged, "n": params["n"]}

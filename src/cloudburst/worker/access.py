"""How tools reach package indexes from this node: settings of pip, certificates, proxy, patience."""

from __future__ import annotations

import ast
import logging
import ssl
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from cloudburst.commands import pipenv, uv
from cloudburst.errors import BuildError
from cloudburst.worker.tools import Tools, tail

log = logging.getLogger(__name__)

_PIP_SETTINGS = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host"),
    *("cert", "client-cert", "proxy", "keyring-provider", "retries", "timeout", "default-timeout"),
    *("no-binary", "only-binary"),
)

_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Each tool reads another of them, so all say the same."""

_PATIENCE = {"PIP_TIMEOUT": "15", "PIP_RETRIES": "1"}
"""An index that does not answer is given up after half a minute: somebody waits for the message."""


def installing(tools: Tools, scratch: Path) -> Tools:
    """The same tools, with temporary files in ``scratch``, and able to reach packages.

    pipenv hides pip's configuration files from pip when it installs, and uv does not read them: so they are
    handed on as variables. Raises BuildError when a certificate cannot be read.
    """
    environ = {**_configured(tools, scratch), **tools.environ, "TMPDIR": str(scratch)}
    if "PIP_DEFAULT_TIMEOUT" in environ:
        environ.setdefault("PIP_TIMEOUT", environ["PIP_DEFAULT_TIMEOUT"])
    environ = _PATIENCE | environ
    if environ.get("PIP_PROXY"):
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            if name.lower() not in environ:
                environ.setdefault(name, environ["PIP_PROXY"])
    bundle = scratch / "certificates.pem"
    bundle.write_text(certificates(environ), encoding="utf-8")
    environ |= dict.fromkeys([*_CERTIFICATES, "GIT_SSL_CAINFO"], str(bundle))
    return replace(tools, environ=uv.variables(environ))


def mirror(environ: Mapping[str, str]) -> str:
    """What stands in for the default index; "" when nothing does."""
    names = ("PIPENV_PYPI_MIRROR", "UV_DEFAULT_INDEX", "PIP_INDEX_URL")
    return next((environ[name] for name in names if environ.get(name)), "")


def certificates(environ: Mapping[str, str]) -> str:
    """The usual authorities, those of this machine, and what the variables name beyond them (PEM)."""
    machine = ssl.get_default_verify_paths().openssl_cafile
    files = {str(DEFAULT_CA_BUNDLE_PATH): "", machine: ""}
    files |= {environ[name]: name for name in _CERTIFICATES if environ.get(name)}
    texts: list[str] = []
    for path, variable in files.items():
        try:
            texts.append(Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            if variable:
                raise BuildError(
                    f"{variable}: cannot read {path} ({error.strerror}): "
                    f"correct it where the worker is started"
                ) from error
    return "\n".join(dict.fromkeys(texts))


def _configured(tools: Tools, scratch: Path) -> dict[str, str]:
    package = find_spec("pipenv")
    if package is None or package.origin is None:
        raise BuildError("pipenv is not installed beside CloudBurst: install CloudBurst again")
    output, said = scratch / "pip-settings", scratch / "pip-settings.log"
    command = pipenv.pip_settings(sys.executable, Path(package.origin).parent)
    if tools.run(command, said, stdout=output) != 0:
        log.warning("pip's configuration cannot be read, going on without it: %s", tail(said))
        return {}
    return pip_variables(output.read_text(encoding="utf-8", errors="replace"))


def pip_variables(listed: str) -> dict[str, str]:
    """What ``pip config list`` says about reaching packages, such as ``global.proxy='...'``, as PIP_PROXY."""
    variables: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in {"global", "install"} and name in _PIP_SETTINGS:
            variables[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(
                str(ast.literal_eval(value)).split()
            )
    return variables

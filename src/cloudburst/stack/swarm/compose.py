"""What the compose file of the stack is given: variables, and a digest of the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cloudburst.stack.swarm import limits
from cloudburst.stack.swarm.images import variable
from cloudburst.stack.swarm.settings import Settings

FILE = Path("stack/docker-compose.yml")

SERVICES = (
    "queue",
    "filestore",
    "influx",
    "grafana",
    "queue-dash",
    "observer",
    "keeper",
    "gateway",
    "worker",
)

CONFIGS = {
    "grafana_datasources": "grafana/provisioning/datasources/cloudburst.yaml",
    "grafana_providers": "grafana/provisioning/dashboards/cloudburst.yaml",
    "grafana_ensemble": "grafana/dashboards/ensemble.json",
    "grafana_stack": "grafana/dashboards/stack.json",
}
"""Files of the checkout, by their names as configs."""


def configs(root: Path) -> dict[str, str]:
    """Contents of the configs, by name."""
    found = {}
    for name, file in CONFIGS.items():
        path = root / file
        found[name] = path.read_text(encoding="utf-8") if path.exists() else "{}\n"
    return found


def variables(
    settings: Settings,
    images: Mapping[str, str],
    secrets: Mapping[str, str],
    configs_: Mapping[str, str],
    memory_bytes: int = 0,
) -> dict[str, str]:
    """Variables for the compose file, without its digest. Images, secrets, configs: Docker's names, by ours.

    ``memory_bytes``: of the master; 0: not known.
    """
    found = {f"CLOUDBURST_IMAGE_{variable(image)}": reference for image, reference in images.items()}
    found |= {f"CLOUDBURST_SECRET_{name.upper()}": full for name, full in secrets.items()}
    found |= {f"CLOUDBURST_CONFIG_{name.upper()}": full for name, full in configs_.items()}
    found["CLOUDBURST_HTTPS_PORT"] = str(settings.https_port)
    found["CLOUDBURST_QUEUE_PORT"] = str(settings.queue_port)
    if "CLOUDBURST_GRACE_S" in settings.variables:
        # The engine has to wait a little longer than the worker does.
        found["CLOUDBURST_STOP_GRACE"] = f"{int(settings.variables['CLOUDBURST_GRACE_S']) + 10}s"
    return found | dict(settings.variables) | limits.variables(memory_bytes, settings.variables)


def digest(text: str, variables_: Mapping[str, str]) -> str:
    """By which a deployment is known: changes with whatever would change a service."""
    made_of = text + "".join(f"\0{name}={value}" for name, value in sorted(variables_.items()))
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]

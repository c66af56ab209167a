"""The manifests as `kubectl kustomize` builds them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MONITORING = KUBERNETES / "components" / "monitoring"
OVERLAYS = tuple(
    sorted(path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
)


def tool(name: str) -> str:
    """A tool of the extra `deploy`, beside this Python."""
    path = Path(sys.executable).with_name(name)
    assert path.is_file(), f"{name} is missing: install the extra 'deploy' (make setup)"
    return str(path)


@cache
def built(folder: Path) -> str:
    """The YAML that a kustomization comes to."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(overlay: str) -> list[dict[str, Any]]:
    """An overlay's objects."""
    return list(yaml.safe_load_all(built(KUBERNETES / "overlays" / overlay)))


def the(kind: str, overlay: str) -> dict[str, Any]:
    """The one object of that kind."""
    (found,) = (each for each in manifests(overlay) if each["kind"] == kind)
    return found


def environment(overlay: str) -> dict[str, str]:
    """What the server reads its settings from."""
    pod = the("Deployment", overlay)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    sources = [
        source["configMapRef"] for source in container["envFrom"] if "secretRef" not in source
    ]
    named = {source["name"] for source in sources}
    maps = [
        each["data"]
        for each in manifests(overlay)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] in named
    ]
    assert len(maps) == len(named)
    return {name: value for data in maps for name, value in data.items()}

"""A release as an operator ships it, and what its containers start with on this host.

It is an overlay over overlays/cpu, as in the guide's "Install": with a bundle's tag and a number of
replicas. All else is what `kubectl kustomize` and the Dockerfiles say; three things alone are put
in place of others:

    where a volume is mounted       a folder; in place of /tmp by TMPDIR too
    where an image has its files    /opt/textcam: the environment of the tests; COPY: a folder
    0.0.0.0                         the pod's own address, of 127.0.0.0/8; so ports stay as they are

User, confinement and limits of CPU and memory are not applied.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from deployed import DEPLOY, KUBERNETES, built
from dockerfile import Image, image

SERVICE = DEPLOY / "container" / "Dockerfile"
BUNDLE = DEPLOY / "container" / "bundle.Dockerfile"


@dataclass(frozen=True)
class Start:
    """A process: its arguments and its whole environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Release:
    """What `kubectl apply -k` would send, and the bundle's image.

    Attributes:
        manifests: Of every kind.
        tag: Of the bundle's image.
        files: What COPY put into that image.
    """

    manifests: tuple[dict[str, Any], ...]
    tag: str
    files: Path

    def the(self, kind: str, name: str = "") -> dict[str, Any]:
        """The one manifest of that kind, and of that name where one is given."""
        (found,) = (
            each
            for each in self.manifests
            if each["kind"] == kind and name in ("", each["metadata"]["name"])
        )
        return found

    @property
    def deployment(self) -> dict[str, Any]:
        return dict(self.the("Deployment")["spec"])

    @property
    def pod(self) -> dict[str, Any]:
        return dict(self.deployment["template"]["spec"])

    @property
    def server(self) -> dict[str, Any]:
        """The server's container."""
        (container,) = self.pod["containers"]
        return dict(container)

    def port(self, name: str) -> int:
        """The container's port behind a port of the Service."""
        (asked,) = (one for one in self.the("Service")["spec"]["ports"] if one["name"] == name)
        (found,) = (one for one in self.server["ports"] if one["name"] == asked["targetPort"])
        return int(found["containerPort"])

    def start(self, container: Mapping[str, Any], address: str, volumes: Path) -> Start:
        """What a container starts, in a pod of this address with these folders as its volumes."""
        made = self._image(container)
        environment = {"HOME": "/", **made.environment}
        for source in container.get("envFrom", ()):
            environment |= self.the("ConfigMap", source["configMapRef"]["name"])["data"]
        environment |= {one["name"]: one["value"] for one in container.get("env", ())}
        # Kubernetes has `command` in place of both of the image's, `args` in place of CMD.
        own = container.get("command")
        arguments = container.get("args", () if own else made.command)
        places = {"0.0.0.0": address, "/opt/textcam": sys.prefix}
        for _, goal in made.copies:
            top = goal.split("/")[1]
            places[f"/{top}"] = str(self.files / top)
        for mount in container.get("volumeMounts", ()):
            places[mount["mountPath"]] = str(volumes / mount["name"])
        return Start(
            tuple(put(word, places) for word in (*(own or made.entrypoint), *arguments)),
            {name: put(value, places) for name, value in environment.items()} | _tests(places),
        )

    def _image(self, container: Mapping[str, Any]) -> Image:
        name, tag = container["image"].split(":")
        if name == "textcam-bundle":
            assert tag == self.tag, container["image"]
            return image(BUNDLE)
        assert name == "textcam-service", container["image"]
        return image(SERVICE, "gpu" if tag.endswith("-gpu") else "cpu")


def release(folder: Path, bundle: Path, tag: str, replicas: int = 3) -> Release:
    """Build a bundle's image and an overlay that names it.

    Args:
        folder: Gets both.
        bundle: Holds backbone/ and bank/.
        tag: The image's.
        replicas: How many pods.
    """
    resource = os.path.relpath(KUBERNETES / "overlays" / "cpu", folder.resolve())
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "textcam",
        "resources": [resource],
        "images": [{"name": "textcam-bundle", "newTag": tag}],
        "replicas": [{"name": "textcam", "count": replicas}],
    }
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    for source, goal in image(BUNDLE).copies:
        shutil.copytree(bundle / source, folder / "image" / goal.lstrip("/"))
    return Release(tuple(yaml.safe_load_all(built(folder))), tag, folder / "image")


def put(value: str, places: Mapping[str, str]) -> str:
    """A value, or a list by ":", with each place in it replaced, whole or as a path's beginning."""
    either = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    return re.sub(rf"(?<![^:])({either})(?=[/:]|$)", lambda found: places[found[1]], value)


def _tests(places: Mapping[str, str]) -> dict[str, str]:
    """In place of a mount at /tmp, and of packages that are on the path, but not installed."""
    found = {"TMPDIR": places["/tmp"]} if "/tmp" in places else {}
    if path := os.environ.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    return found

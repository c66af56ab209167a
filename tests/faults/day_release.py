"""A release as an operator ships it, and what its containers start with on this host.

An overlay of one's own over overlays/cpu, as the guide's "Install" has it: it chooses the bundle's
tag and the number of replicas. What a container runtime would do is done by the Dockerfiles'
and the manifests' own words. Three things alone are put in place of others:

    a volume, where it is mounted   a folder; so for /tmp, which gets TMPDIR as well
    an image's own files            /opt/textcam: the environment that runs the tests; COPY: a folder
    0.0.0.0                         the pod's own address, of 127.0.0.0/8: ports stay as they are

Not applied: user and confinement, limits of CPU and memory.
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
    """What `kubectl apply -k` would send, and the images that it names.

    Attributes:
        manifests: Of every kind.
        bundle: The build context of the bundle's image: backbone/ and bank/.
        tag: Of that image.
    """

    manifests: tuple[dict[str, Any], ...]
    bundle: Path
    tag: str

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

    def image_of(self, container: dict[str, Any]) -> Image:
        """The image that a container names."""
        name, tag = container["image"].split(":")
        if name == "textcam-bundle":
            assert tag == self.tag, container
            return image(BUNDLE)
        assert name == "textcam-service", container
        return image(SERVICE, "gpu" if tag.endswith("-gpu") else "cpu")

    def start(self, container: dict[str, Any], address: str, folder: Path) -> Start:
        """What a container starts, where its pod has this address and this folder."""
        made = self.image_of(container)
        environment = {"HOME": "/", **made.environment}
        for source in container.get("envFrom", ()):
            environment |= self.the("ConfigMap", source["configMapRef"]["name"])["data"]
        environment |= {one["name"]: one["value"] for one in container.get("env", ())}
        # As Kubernetes has it: `command` is in place of both of the image's, `args` of CMD.
        own = container.get("command")
        arguments = container.get("args", () if own else made.command)
        places = {"0.0.0.0": address, "/opt/textcam": sys.prefix}
        for mount in container.get("volumeMounts", ()):
            places[mount["mountPath"]] = str(folder / "volumes" / mount["name"])
        for source, goal in made.copies:
            places[goal] = str(folder / "image" / source)
            shutil.copytree(self.bundle / source, places[goal], dirs_exist_ok=True)
            places[str(Path(goal).parent)] = str(folder / "image")
        return Start(
            tuple(put(word, places) for word in (*(own or made.entrypoint), *arguments)),
            {name: put(value, places) for name, value in environment.items()} | _of_tests(places),
        )


def put(value: str, places: Mapping[str, str]) -> str:
    """A value with each place, whole or as the beginning of a path, replaced by what stands in."""
    either = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    return re.sub(rf"(?<![^:])({either})(?=[/:]|$)", lambda found: places[found[1]], value)


def _of_tests(places: Mapping[str, str]) -> dict[str, str]:
    """What stands in for a mount at /tmp, and for packages that are on the path, not installed."""
    found = {"TMPDIR": places["/tmp"]} if "/tmp" in places else {}
    if path := os.environ.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    return found


def release(folder: Path, bundle: Path, tag: str, replicas: int = 3) -> Release:
    """Write an overlay of one's own and build it.

    Args:
        folder: Gets the overlay.
        bundle: Holds backbone/ and bank/.
        tag: The bundle's.
        replicas: How many pods.
    """
    folder.mkdir()
    resource = os.path.relpath(KUBERNETES / "overlays" / "cpu", folder.resolve())
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "textcam",
        "resources": [resource],
        "images": [{"name": "textcam-bundle", "newTag": tag}],
        "replicas": [{"name": "textcam", "count": replicas}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return Release(tuple(yaml.safe_load_all(built(folder))), bundle, tag)

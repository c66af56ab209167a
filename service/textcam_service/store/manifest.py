"""The manifest of a published model: the digest of each of its files, in bundle.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from textcam_service.artefacts.files import canonical_json, read_file, sha256
from textcam_service.errors import ArtefactCorrupt

MANIFEST = "bundle.json"
CANARY = "canary"
PARTS = ("backbone", "bank", CANARY)


def write_manifest(digests: Mapping[str, str]) -> bytes:
    """Encode a manifest from the digest of each file, by its path in the version."""
    manifest = {"files": digests, "digest": sha256(canonical_json(digests))}
    return json.dumps(manifest, indent=2).encode()


def read_manifest(content: bytes, path: str) -> dict[str, str]:
    """Decode a manifest: the digest of each file, by its path in the version.

    Raises:
        ArtefactCorrupt: It is not a manifest, its own digest does not match, or a path leads out
            of the version.
    """
    try:
        manifest = json.loads(content)
        digests = {str(file): str(digest) for file, digest in manifest["files"].items()}
        stated = manifest["digest"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactCorrupt(f"{path} is not a manifest: {error}") from error
    if sha256(canonical_json(digests)) != stated or not all(map(_is_inside, digests)):
        raise ArtefactCorrupt(f"{path} was changed after it was written; publish a new version")
    return digests


def verify_files(folder: Path, digests: Mapping[str, str], source: str = "") -> None:
    """Check the files of a folder against a manifest.

    Args:
        folder: Holds the files.
        digests: Digests by path in the folder.
        source: Shown in errors in place of the folder, if the folder is a copy.

    Raises:
        ArtefactMissing: A file is missing.
        ArtefactCorrupt: A file does not have its digest.
    """
    for path, digest in digests.items():
        if sha256(read_file(folder / path)) != digest:
            raise ArtefactCorrupt(
                f"{source or folder}/{path} does not have the digest that {MANIFEST} states; roll "
                "back, and publish a new version"
            )


def _is_inside(path: str) -> bool:
    """Return True if a path is that of a file in one of the version's folders."""
    folder, _, leaf = path.partition("/")
    return folder in PARTS and leaf == Path(leaf).name != ""

"""Artefacts as data: safetensors beside a JSON manifest, content-addressed, never pickles.

An artefact NAME in a folder is NAME.safetensors and NAME.json. Its digest covers both files, so a
change of either is detected.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from textcam_service.errors import ArtefactCorrupt, ArtefactMissing, FolderTaken

Tensors = Mapping[str, NDArray[Any]]


def sha256(data: bytes) -> str:
    """Compute the digest of bytes, as "sha256:<hex>"."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Encode a JSON value as its one canonical byte string."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def require_replaceable(target: Path, files: Collection[str]) -> None:
    """Check that a folder may be replaced.

    Args:
        target: A folder, a path that does not exist yet, or a link to either.
        files: Names of the files that may be deleted with the folder.

    Raises:
        FolderTaken: It holds other files, or a disk is mounted there.
        OSError: It is not a folder, or cannot be read.
    """
    if not target.exists():
        return
    if others := sorted({path.name for path in target.iterdir()} - set(files)):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FolderTaken(
            f"{target} would be replaced as a whole, but holds {others[0]!r}{more}; give a folder "
            "that is new, or empty, or was written in the same way"
        )
    if target.is_mount():
        raise FolderTaken(f"{target} is where a disk is mounted; give a folder on it")


@contextmanager
def replaced_folder(target: Path, files: Collection[str]) -> Iterator[Path]:
    """Fill a folder under a temporary name beside `target`, and move it there at the end.

    A failure inside the block, or a crash, leaves `target` as it was. Two system calls replace it:
    the first moves the old folder away, the second moves the new one there. Between them `target`
    does not exist. If the second call fails, the old folder is moved back.

    Args:
        target: See require_replaceable. If it is a link, the folder behind it is replaced.
        files: Names of the files that the folder may hold.

    Raises:
        FolderTaken: See require_replaceable.
    """
    target = target.resolve()
    require_replaceable(target, files)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)
        _exchange(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _exchange(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    old = staging.with_name(staging.name + ".old")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        if target.exists():  # another process replaced it meanwhile
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def artefact_files(name: str) -> tuple[str, str]:
    """Name the files of an artefact."""
    return f"{name}.json", f"{name}.safetensors"


def write_artefact(folder: Path, name: str, tensors: Tensors, manifest: Mapping[str, Any]) -> str:
    """Write NAME.safetensors and NAME.json and return the digest."""
    contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    data = save_tensors(contiguous)
    content = {**manifest, "tensors_sha256": sha256(data)}
    digest = sha256(canonical_json(content))
    text = json.dumps({**content, "digest": digest}, indent=2, ensure_ascii=False) + "\n"
    _write_file(folder / f"{name}.safetensors", data)
    _write_file(folder / f"{name}.json", text.encode())
    return digest


def read_artefact(folder: Path, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read and verify an artefact; the manifest holds its "digest".

    Raises:
        ArtefactMissing: A file is missing.
        ArtefactCorrupt: The content does not have the stated digest.
    """
    manifest = read_manifest(folder / f"{name}.json")
    data = read_file(folder / f"{name}.safetensors")
    if sha256(data) != manifest.get("tensors_sha256"):
        raise ArtefactCorrupt(
            f"{folder / name}.safetensors does not have the digest that its manifest states; "
            "publish or export it again"
        )
    try:
        return load_tensors(data), manifest
    except SafetensorError as error:
        raise ArtefactCorrupt(f"{folder / name}.safetensors is malformed: {error}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a JSON manifest and verify its own digest.

    Raises:
        ArtefactMissing: The file is missing.
        ArtefactCorrupt: It is not JSON, or its digest does not match.
    """
    try:
        manifest = json.loads(read_file(path))
        stated = manifest.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ArtefactCorrupt(f"{path} is not a manifest: {error}") from error
    if sha256(canonical_json(manifest)) != stated:
        raise ArtefactCorrupt(f"{path} was changed after it was written: its digest differs")
    manifest["digest"] = stated
    return dict(manifest)


def read_file(path: Path) -> bytes:
    """Read a file of an artefact.

    Raises:
        ArtefactMissing: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactMissing(f"{path} cannot be read: {error.strerror}") from error


def file_digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Compute the digest of each file, by its name.

    Raises:
        ArtefactMissing: A file cannot be read.
    """
    return {name: sha256(read_file(path)) for name, path in files.items()}


def version_of(digests: Mapping[str, str]) -> str:
    """Derive a version from content: 12 digits of the digest over the files' digests."""
    return sha256(canonical_json(digests)).removeprefix("sha256:")[:12]


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

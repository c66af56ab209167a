"""The probing set through the served backbone and the embedder, each photograph once.

Memory grows by N x (D + E) floats only. Finished chunks are kept in a work folder, so an
interrupted extraction resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textcam_service.artefact import (
    Tensors,
    artefact_files,
    canonical_json,
    read_artefact,
    replaced_folder,
    sha256,
    write_artefact,
)
from textcam_service.backbone import Backbone
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import ArtefactError, InvalidImage, InvalidRequest, ProbingSetError
from textcam_service.imaging import ImageLimits, decode, prepare
from textcam_service.offline.dataset import printable, stated
from textcam_service.offline.embed import Embedder

_CHUNK = 128
_BATCH = 16
_LIMITS = ImageLimits(max_bytes=200 * 2**20, max_pixels=200_000_000)


@dataclass(frozen=True)
class Extraction:
    """What was seen of the probing set.

    Attributes:
        activation_scores: (N, D).
        embeddings: (N, E) unit vectors.
        predicted: (N,) the backbone's most probable class.
        skipped: (path, reason) of each image that could not be read; the path as `stated`.
    """

    activation_scores: Float32Array
    embeddings: Float32Array
    predicted: IntArray
    skipped: tuple[tuple[str, str], ...]


def extract(
    images: Sequence[Path],
    backbone: Backbone,
    embedder: Embedder,
    work: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> Extraction:
    """Run the probing set, resuming what `work` holds of the same run.

    Args:
        images: The probing set.
        backbone: The served one.
        embedder: Of the space the bank will live in.
        work: Folder for finished chunks; the caller removes it when the bank is written.
        progress: Told the number of images finished since the last call.

    Raises:
        ProbingSetError: There is no image, or none could be read.
    """
    if not images:
        raise ProbingSetError("the probing set holds no image")
    parts: list[Extraction] = []
    for start in range(0, len(images), _CHUNK):
        paths = images[start : start + _CHUNK]
        stamps = [(stated(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        identity = [stamps, backbone.manifest.weights_digest, embedder.identity]
        folder = work / sha256(canonical_json(identity)).removeprefix("sha256:")[:24]
        part = _resumed(folder)
        if part is None:
            part = _extract_chunk(paths, backbone, embedder)
            _keep(folder, part)
        parts.append(part)
        progress(len(paths))
    result = Extraction(
        np.concatenate([part.activation_scores for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        tuple(skip for part in parts for skip in part.skipped),
    )
    if not len(result.predicted):
        raise ProbingSetError(f"none of the {len(images)} images could be read")
    return result


def _extract_chunk(paths: Sequence[Path], backbone: Backbone, embedder: Embedder) -> Extraction:
    scores: list[Float32Array] = []
    embeddings: list[Float32Array] = []
    predicted: list[IntArray] = []
    skipped: list[tuple[str, str]] = []
    for start in range(0, len(paths), _BATCH):
        pictures, inputs = [], []
        for path in paths[start : start + _BATCH]:
            try:
                image = decode(path.read_bytes(), _LIMITS).pixels
            except (OSError, InvalidImage, InvalidRequest) as error:
                skipped.append((stated(path), printable(str(error))))
                continue
            pictures.append(image)
            inputs.append(prepare(image, backbone.manifest.preprocessing)[0])
        if pictures:
            logits, maps = backbone.run(np.stack(inputs))
            scores.append(maps.mean(axis=(2, 3)))
            predicted.append(logits.argmax(axis=1))
            embeddings.append(embedder.embed_images(pictures))
    channels = backbone.manifest.channel_count
    return Extraction(
        np.concatenate([np.zeros((0, channels), np.float32), *scores]),
        np.concatenate([np.zeros((0, embedder.dimension), np.float32), *embeddings]),
        np.concatenate([np.zeros(0, np.int64), *predicted]),
        tuple(skipped),
    )


def _resumed(folder: Path) -> Extraction | None:
    try:
        tensors, manifest = read_artefact(folder, "chunk")
    except ArtefactError:
        return None
    return Extraction(
        tensors["activation_scores"],
        tensors["embeddings"],
        tensors["predicted"],
        tuple((path, reason) for path, reason in manifest["skipped"]),
    )


def _keep(folder: Path, part: Extraction) -> None:
    with replaced_folder(folder, artefact_files("chunk")) as staging:
        tensors: Tensors = {
            "activation_scores": part.activation_scores,
            "embeddings": part.embeddings,
            "predicted": part.predicted,
        }
        write_artefact(
            staging, "chunk", tensors, {"skipped": [list(skip) for skip in part.skipped]}
        )

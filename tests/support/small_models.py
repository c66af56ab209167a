"""Small real bundles, quick to make and to load: a convolution and a linear head in onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    GAP_LINEAR,
    INPUT,
    LOGITS,
    BackboneGraphs,
    BackboneManifest,
    write_backbone,
)
from textcam_service.artefacts.bank import ConceptBank, Vocabulary, read_bank, write_bank
from textcam_service.artefacts.files import sha256
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.wording import PhraseSupports, stored_likeness
from textcam_service.core.types import Preprocessing
from textcam_service.model.bundle import ModelBundle
from textcam_service.runtime.backbone import Backbone

CHANNELS, CLASSES, SIDE, EMBEDDING = 12, 5, 32, 16


def write_model(
    folder: Path,
    seed: int,
    like: int | None = None,
    class_names: tuple[str, ...] = tuple(f"class {index}" for index in range(CLASSES)),
    *,
    multi_label: bool = False,
) -> Path:
    """A backbone and its bank, of random weights.

    Args:
        folder: Gets backbone/ and bank/.
        seed: Of the weights.
        like: Weights that differ little from those of this seed.
        class_names: Of its 5 classes.
        multi_label: They do not exclude each other.
    """
    rng = np.random.default_rng(seed if like is None else like)
    kernel = rng.standard_normal((CHANNELS, 3, 4, 4)).astype(np.float32)
    head = rng.standard_normal((CLASSES, CHANNELS)).astype(np.float32)
    texts = _unit(rng.standard_normal((9, EMBEDDING)))
    directions = _unit(rng.standard_normal((CHANNELS, EMBEDDING)))
    if like is not None:
        head *= np.float32(1 + 1e-4 * (seed + 1))
    graph, bias = _graph(kernel, head), np.zeros(CLASSES, np.float32)
    manifest = BackboneManifest(
        architecture="small",
        target_layer="convolution",
        head_kind=GAP_LINEAR,
        weights_digest=sha256(graph),
        preprocessing=Preprocessing(SIDE, SIDE, SIDE, "bilinear", (0.5,) * 3, (0.25,) * 3),
        class_names=class_names,
        channel_count=CHANNELS,
        map_height=SIDE // 4,
        map_width=SIDE // 4,
        exporter={},
        multi_label=multi_label,
    )
    write_backbone(folder / "backbone", BackboneGraphs(graph), (head, bias), manifest)
    backbone = Backbone(folder / "backbone", threads=1)
    bank = ConceptBank(
        directions,
        np.zeros(CHANNELS, bool),
        np.zeros(EMBEDDING, np.float32),
        backbone.fingerprint(),
        manifest.weights_digest,
        "small",
        {"rationale": {"prior": 0.0}},
    )
    phrases = tuple(f"phrase {index}" for index in range(len(texts)))
    write_bank(folder / "bank", bank, Vocabulary(phrases, texts, "small"))
    return folder


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _graph(kernel: np.ndarray, head: np.ndarray) -> bytes:
    cells = SIDE // 4
    nodes = [
        helper.make_node("Conv", [INPUT, "kernel"], ["sums"], strides=[4, 4]),
        helper.make_node("Relu", ["sums"], [ACTIVATION_MAPS]),
        helper.make_node("GlobalAveragePool", [ACTIVATION_MAPS], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"]),
        helper.make_node("Gemm", ["scores", "head"], [LOGITS], transB=1),
    ]

    def tensor(name: str, shape: list[int]) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])

    graph = helper.make_graph(
        nodes,
        "small",
        [tensor(INPUT, [3, SIDE, SIDE])],
        [tensor(LOGITS, [CLASSES]), tensor(ACTIVATION_MAPS, [CHANNELS, cells, cells])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(head, "head")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def add_supports(folder: Path, kinds: tuple[str, ...] = (), repeats: tuple[int, ...] = ()) -> Path:
    """Give the model's bank random supports, by which probabilities from 0.3 to 1 are said.

    Args:
        folder: As write_model made it.
        kinds: Of the 9 phrases.
        repeats: Phrases that repeat the name of every class.
    """
    artefact = read_bank(folder / "bank")
    count = len(artefact.vocabulary.phrases)
    calibration = Calibration(
        mean=np.zeros(count, np.float32),
        deviation=0.1,
        prior=np.full(count, 0.5, np.float32),
        grounded=np.ones(count, bool),
        slope=1.0,
        prior_weight=1.0,
        offset=-0.9,
        temperature=0.0,
        source="labels",
        images=77,
        bins=(ReliabilityBin(0.7, 0.8, 0.75, 0.7, 30), ReliabilityBin(0.9, 1.0, 0.95, 0.95, 10)),
    )
    supports = PhraseSupports(
        np.random.default_rng(11).normal(0, 0.3, (CHANNELS, count)).astype(np.float32),
        stored_likeness(np.eye(count)),
        calibration,
        np.zeros((0, 2), np.int64),
        np.array([[each, phrase] for each in range(CLASSES) for phrase in repeats], np.int64)
        .reshape(-1, 2),
    )  # fmt: skip
    bank = replace(artefact.bank, supports=supports)
    write_bank(folder / "bank", bank, replace(artefact.vocabulary, kinds=kinds))
    return folder


def load_model(folder: Path, name: str = "small", version: str = "") -> ModelBundle:
    """Load a model as write_model made it, with one thread."""
    return ModelBundle.load(name, folder / "backbone", folder / "bank", version=version, threads=1)

"""OpenVINO in onnxruntime's place: heads and layers, int8, `textcam parity`, and a server."""

import grpc
import numpy as np
import pytest
from commands import run
from head_networks import CLASSES, Around, Deeper, Transformer, exported
from head_networks import images as pictures
from PIL import Image
from small_models import SIDE, write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.artefacts.packaged import DEVICE
from textcam_service.core.methods import Capability
from textcam_service.errors import InvalidSettings
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.quantization import QuantizationSettings, quantized_graph
from textcam_service.runtime import openvino_loading, openvino_session
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.openvino_session import OpenVinoSession
from textcam_service.serving.registry.loading import load_bundle
from textcam_service.serving.server import Server
from textcam_service.settings import read_settings

NETWORKS = {
    "strided": (Deeper, {"target_layer": "stem"}),
    "with layers": (Deeper, {"target_layer": "body.4", "layers": ("body.2", "stem")}),
    "residual around": (Around, {"target_layer": "branch"}),
    "tokens": (Transformer, {"target_layer": "blocks.0"}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request, tmp_path_factory):
    """The same backbone in onnxruntime and in OpenVINO."""
    module, options = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp("network")
    exported(module, folder, **options)
    return [Backbone(folder / "b", providers=(name,), threads=2) for name in ("cpu", "openvino")]


def assert_close(found, wanted, share=1e-5):
    np.testing.assert_allclose(found, wanted, atol=share * np.abs(wanted).max())


def test_every_graph_answers_as_in_onnxruntime_and_for_each_image_alone(pair):
    own, other = pair
    assert own.capabilities == other.capabilities
    images, rng = pictures(5), np.random.default_rng(0)
    weights = rng.normal(size=(5, CLASSES))
    here, there = own.forward(images), other.forward(images)
    for one, two in zip(here, there, strict=True):
        assert_close(two.logits, one.logits)
        for name, value in one.further.items():
            assert_close(two.further[name], value)
    found = other.gradients(there, weights)
    assert_close(found, own.gradients(here, weights))
    assert np.abs(found).max() > 0
    maps = np.stack([seen.activation_maps for seen in there]) * np.float32(0.5)
    assert_close(other.head_logits(maps, there[0]), own.head_logits(maps, here[0]))
    asked = [other.gradients]
    if Capability.ATTENTION in own.capabilities:
        assert_close(other.attention(there, weights), own.attention(here, weights))
        asked.append(other.attention)
    for ask in asked:
        np.testing.assert_array_equal(ask(there, weights)[3], ask(there[3:4], weights[3:4])[0])
    if Capability.LAYERS in own.capabilities:
        gradients = other.layer_gradients(there, weights)
        for two, one in zip(gradients, own.layer_gradients(here, weights), strict=True):
            assert_close(two, one)
        alone = other.layer_gradients(there[2:3], weights[2:3])
        for one, all_of in zip(alone, gradients, strict=True):
            np.testing.assert_array_equal(one[0], all_of[2])


def test_the_small_graphs_of_devices_compile_too():
    maps = np.random.default_rng(0).normal(size=(1, 4, 3, 3)).astype(np.float32)
    session = OpenVinoSession((DEVICE / "scores.onnx").read_bytes(), 1)
    np.testing.assert_allclose(
        session.run(["scores"], {"values": maps})[0], maps.mean((2, 3)), atol=1e-6
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = write_model(tmp_path_factory.mktemp("model"), 0)
    for kind in ("images", "held-out"):
        (made / kind).mkdir()
        for number in range(50):  # the fewest that are judged by
            seed = [number, len(kind)]
            pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(made / kind / f"{number}.png")
    return made


def test_an_int8_graph_has_one_answer_for_an_image_near_onnxruntimes(folder, tmp_path):
    backbone, rng = Backbone(folder / "backbone", threads=1), np.random.default_rng(1)
    inputs = iter(rng.normal(size=(20, 3, SIDE, SIDE)).astype(np.float32))
    graph, used = quantized_graph(backbone, inputs, QuantizationSettings(0, True), tmp_path)
    session, own = OpenVinoSession(graph, 2), cpu_session(graph)
    assert used == 20
    images = rng.normal(size=(8, 3, SIDE, SIDE)).astype(np.float32)
    (together,) = session.run(["logits"], {"image": images})
    assert_close(together, own.run(["logits"], {"image": images})[0], 0.02)
    for place in range(8):
        (alone,) = session.run(["logits"], {"image": images[place : place + 1]})
        np.testing.assert_array_equal(alone[0], together[place])


def test_int8_serves_by_openvino_once_it_was_compared_here(folder, tmp_path):
    given = [f"--{name}={folder / name}" for name in ("backbone", "bank", "images")]
    made = ["--calibration=20", "--float-layers=0", "--reduce-range", "--min-first-phrase=0.5"]
    held_out = f"--held-out={folder / 'held-out'}"
    code, said = run("quantize", *given, *made, held_out, "--output", str(tmp_path / "int8"))
    assert code == 0, said
    flags = {
        "backbone": tmp_path / "int8", "bank": folder / "bank", "providers": ("openvino",),
        "precision": "int8", "engine_cache": str(tmp_path / "engines"),
    }  # fmt: skip
    settings = read_settings(flags)

    def load():
        return load_bundle(settings, "m", settings.backbone, settings.bank, "")

    with pytest.raises(InvalidSettings, match="int8 in OpenVINO was not compared"):
        load()
    words = ["--backbone", str(tmp_path / "int8"), *given[1:], "--providers", "openvino"]
    words += ["--precision", "int8", "--engine-cache", flags["engine_cache"]]
    code, said = run("parity", *words, "--min-first-phrase=0.5")
    assert code == 0, said
    assert said.startswith("OpenVINO, int8: same top-1")
    bundle = load()
    assert bundle.parameters()["precision"] == "int8"
    assert bundle.parameters()["parity"] in said


def test_parity_compares_openvino_and_keeps_a_record_for_bf16_alone(folder, tmp_path, monkeypatch):
    for module in (openvino_loading, openvino_session):
        monkeypatch.setattr(module, "has_bf16", lambda: True)
    given = [f"--{name}={folder / name}" for name in ("backbone", "bank", "images")]
    given += ["--providers", "openvino", "--engine-cache", str(tmp_path)]
    code, said = run("parity", *given)
    assert code == 0, said
    assert said.startswith("OpenVINO, float32: same top-1 1.0000")
    assert not list(tmp_path.rglob("bf16-*"))
    flags = {
        "backbone": folder / "backbone", "bank": folder / "bank", "providers": ("openvino",),
        "precision": "auto", "engine_cache": str(tmp_path), "session_threads": 1,
    }  # fmt: skip
    settings = read_settings(flags)
    before = load_bundle(settings, "m", settings.backbone, settings.bank, "")
    assert before.backbone.precision == "float32"
    code, said = run("parity", *given, "--precision", "bf16")
    assert code == 0, said
    assert said.startswith("OpenVINO, bfloat16: same top-1")
    assert len(list(tmp_path.rglob("bf16-*.json"))) == 1
    after = load_bundle(settings, "m", settings.backbone, settings.bank, "")
    assert after.backbone.precision == "bfloat16"


async def test_a_server_answers_by_openvino_and_says_so(folder):
    flags = {
        "backbone": folder / "backbone", "bank": folder / "bank", "providers": ("openvino",),
        "port": 0, "metrics_port": -1,
    }  # fmt: skip
    settings = read_settings(flags)
    server = Server(load_bundle(settings, "m", settings.backbone, settings.bank, ""), settings)
    await server.start()
    pixels = np.random.default_rng(8).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    tensor = types_pb.Tensor(
        dtype=types_pb.Tensor.D_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes()
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
            answer = await stub.Explain(pb.ExplainRequest(pixels=tensor), timeout=60)
    finally:
        await server.stop()
    assert answer.provenance.execution_provider == "OpenVINO"
    assert answer.provenance.parameters["precision"] == "float32"
    parts = [*answer.explanations[0].groups, answer.explanations[0].rest]
    total = answer.explanations[0].bias + sum(part.evidence for part in parts)
    assert total == pytest.approx(answer.explanations[0].logit, abs=1e-3)

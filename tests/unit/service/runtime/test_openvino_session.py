"""Sessions in OpenVINO: each of its ways that would change an answer without a word."""

import os
import threading

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest
from onnx import TensorProto, helper
from onnx_graphs import graph_of
from small_models import SIDE, write_model
from textcam_service.errors import InvalidSettings, InvalidTensor
from textcam_service.runtime import openvino_session
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.openvino_session import OpenVinoSession
from textcam_service.runtime.providers import DeviceOptions

RELU = graph_of([helper.make_node("Relu", ["image"], ["logits"])], (4,), (4,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 4) / "backbone"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(9, 3, SIDE, SIDE)).astype(np.float32)


def backbone_of(folder, **options):
    return Backbone(folder, providers=("openvino",), threads=1, device=DeviceOptions(**options))


def test_the_precision_is_stated_whatever_the_processors_fastest_is(folder):
    graph = (folder / "backbone.onnx").read_bytes()
    sessions = [OpenVinoSession(graph, 1), OpenVinoSession(graph, 1, bf16=True)]
    exact, rounded = (
        session._requests[0].get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
        for session in sessions
    )
    assert exact == ov.Type.f32
    assert rounded == (ov.Type.bf16 if openvino_session.has_bf16() else ov.Type.f32)


def test_an_image_at_a_time_for_each_cpu_that_may_be_used_and_pinned_to_none(monkeypatch):
    monkeypatch.setattr(openvino_session, "usable_cpus", lambda: 1)
    for threads, wanted in ((0, 1), (2, 2)):
        session = OpenVinoSession(RELU, threads)
        network = session._requests[0].get_compiled_model()
        assert len(session._requests) == wanted
        for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"):
            assert network.get_property(name) == wanted
        assert network.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_for_it_would_become_one(value):
    session = OpenVinoSession(RELU, 1)
    images = np.ones((3, 4), np.float32)
    images[1, 2] = value
    with pytest.raises(InvalidTensor, match="image holds NaN or infinity"):
        session.run(["logits"], {"image": images})
    images[1, 2] = -2
    np.testing.assert_array_equal(session.run(["logits"], {"image": images})[0][1], [1, 1, 0, 1])


def test_outputs_are_kept_when_the_next_batch_runs(folder, images):
    backbone = backbone_of(folder)
    first = backbone.forward(images[:1])[0]
    kept = first.activation_maps.copy()
    several = backbone.forward(images[1:4])
    backbone.forward(images[4:])
    np.testing.assert_array_equal(first.activation_maps, kept)
    np.testing.assert_array_equal(several[2].activation_maps, backbone.run(images[3:4])[1][0])
    assert all(own.activation_maps.base is None for own in several)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bf16", [False, True])
def test_an_image_has_one_answer_alone_in_any_batch_and_on_any_thread(
    folder, images, threads, bf16
):
    graph = (folder / "backbone.onnx").read_bytes()
    names = ["logits", "activation_maps"]
    wanted = OpenVinoSession(graph, 1, bf16=bf16).run(names, {"image": images})
    session = OpenVinoSession(graph, threads, bf16=bf16)
    for count in (1, 2, 3, 5, 8, 9):
        for place in range(0, len(images), count):
            part = slice(place, place + count)
            for found, own in zip(session.run(names, {"image": images[part]}), wanted, strict=True):
                np.testing.assert_array_equal(found, own[part])


def test_threads_that_run_at_a_time_get_their_own_answers(folder, images):
    session = OpenVinoSession((folder / "backbone.onnx").read_bytes(), 2)
    wanted, found = session.run(["logits"], {"image": images})[0], {}

    def ask(place):
        for _ in range(20):
            (found[place],) = session.run(["logits"], {"image": images[place : place + 1]})

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, own in found.items():
        np.testing.assert_array_equal(own[0], wanted[place])


def test_a_failed_run_leaves_the_session_usable(folder, images):
    session = OpenVinoSession((folder / "backbone.onnx").read_bytes(), 2)
    with pytest.raises(RuntimeError, match="nowhere"):
        session.run(["nowhere"], {"image": images})
    assert session.run(["logits"], {"image": images})[0].shape == (9, 5)


def test_other_weights_never_answer_from_the_cache_of_the_ones_before(tmp_path, images):
    """Same path, same size and same time: OpenVINO's own key by path would find the old ones."""
    answers, cache = [], tmp_path / "cache"
    for seed in (1, 2):
        folder = write_model(tmp_path / "model", seed) / "backbone"
        for path in folder.iterdir():
            os.utime(path, (1e9, 1e9))
        for _ in range(2):  # compiled, and from the cache
            backbone = backbone_of(folder, engine_cache=str(cache))
            answers.append(backbone.logits(images))
        wanted = Backbone(folder, providers=("cpu",), threads=1).logits(images)
        np.testing.assert_allclose(answers[-1], wanted, atol=1e-4)
    assert len(list(cache.iterdir())) == 2
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[2], answers[3])
    assert np.abs(answers[0] - answers[2]).max() > 0.01


@pytest.mark.parametrize("damage", [b"", b"no network"])
def test_a_damaged_cache_is_compiled_anew(tmp_path, folder, images, damage):
    cache = tmp_path / "cache"
    wanted = backbone_of(folder, engine_cache=str(cache)).logits(images)
    blobs = list(cache.rglob("*.blob"))
    assert blobs
    for blob in blobs:
        blob.chmod(0o600)
        blob.write_bytes(damage or blob.read_bytes()[:-100])
    np.testing.assert_array_equal(
        backbone_of(folder, engine_cache=str(cache)).logits(images), wanted
    )


def test_a_graph_that_openvino_cannot_compile_is_refused_with_the_mend():
    """An If whose branches have different ranks, which onnxruntime runs."""
    flat = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["a"], axis=0)], "flat", [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
    )  # fmt: skip
    same = helper.make_graph(
        [helper.make_node("ReduceSum", ["image"], ["b"], keepdims=0)], "same", [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["asked"]),
        helper.make_node("If", ["asked"], ["logits"], then_branch=flat, else_branch=same),
    ]
    graph = graph_of(nodes, (4,), (None,), {"zero": np.zeros((), np.float32)})
    with pytest.raises(InvalidSettings, match=r"OpenVINO cannot run the graph.*provider 'cpu'"):
        OpenVinoSession(graph, 1)


@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_and_its_gradient_may_share_their_weights(group):
    """OpenVINO would pack them once for both; a branch of an If shares them just as well."""
    kernel = np.random.default_rng(0).normal(size=(8, 8 // group, 3, 3)).astype(np.float32)
    same = {"pads": [1] * 4, "group": group}
    shape = ["n", 8, 6, 6]
    branches = [
        helper.make_graph(
            [helper.make_node("ConvTranspose", ["seen", "kernel"], [name], **same)], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        )
        for name in ("then", "else")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["seen"], **same),
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["asked"]),
        helper.make_node(
            "If", ["asked"], ["pulled"], then_branch=branches[0], else_branch=branches[1]
        ),
        helper.make_node("ConvTranspose", ["seen", "kernel"], ["outside"], **same),
        helper.make_node("Concat", ["pulled", "outside"], ["logits"], axis=1),
    ]
    constants = {"kernel": kernel, "zero": np.zeros((), np.float32)}
    graph = graph_of(nodes, (8, 6, 6), (16, 6, 6), constants)
    images = np.random.default_rng(1).normal(size=(2, 8, 6, 6)).astype(np.float32)
    # One image after the other: the sum of a batch would ask for both branches alike.
    own = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    session = OpenVinoSession(graph, 1)
    for image in images:
        (wanted,) = own.run(["logits"], {"image": image[None]})
        (found,) = session.run(["logits"], {"image": image[None]})
        np.testing.assert_allclose(found, wanted, atol=1e-4)

"""Graphs that OpenVINO computes otherwise than onnxruntime are refused before they serve."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_graphs import graph_of
from small_models import SIDE, write_model
from textcam_service.core.types import Preprocessing
from textcam_service.errors import InvalidSettings
from textcam_service.runtime import openvino_loading, openvino_session
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.openvino_loading import require_same
from textcam_service.runtime.openvino_session import OpenVinoSession
from textcam_service.runtime.providers import DeviceOptions

SIZE = Preprocessing(16, 16, 16, "bilinear", (0.5,) * 3, (0.25,) * 3)


def antialias():
    node = helper.make_node(
        "Resize", ["image", "", "scales"], ["logits"], mode="linear", antialias=1
    )
    scales = np.array([1, 1, 0.25, 0.25], np.float32)
    return graph_of([node], (3, 16, 16), (3, 4, 4), {"scales": scales}, opset=18)


def old_softmax():
    """Of opset 11, over all axes from the first named one on."""
    node = helper.make_node("Softmax", ["image"], ["logits"], axis=1)
    return graph_of([node], (3, 16, 16), (3, 16, 16), opset=11)


def long_integers():
    nodes = [
        helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "large"], ["sum"]),
        helper.make_node("Mod", ["sum", "seven"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["logits"], to=TensorProto.FLOAT),
    ]
    constants = {"large": np.array(2**40, np.int64), "seven": np.array(7, np.int64)}
    return graph_of(nodes, (3, 16, 16), (3, 16, 16), constants)


def wrapping_bytes():
    nodes = [
        helper.make_node("Abs", ["image"], ["size"]),
        helper.make_node("Cast", ["size"], ["byte"], to=TensorProto.UINT8),
        helper.make_node("Sub", ["byte", "large"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["logits"], to=TensorProto.FLOAT),
    ]
    return graph_of(nodes, (3, 16, 16), (3, 16, 16), {"large": np.array(200, np.uint8)})


@pytest.mark.parametrize("made", [antialias, old_softmax, long_integers, wrapping_bytes])
def test_a_graph_that_is_computed_otherwise_is_refused(made):
    session = OpenVinoSession(made(), 1)
    with pytest.raises(InvalidSettings, match=r"'logits' of backbone\.onnx otherwise.*'cpu'"):
        require_same({"backbone": made()}, {"backbone": session}, SIZE)


def test_a_newer_softmax_and_plain_resizing_agree():
    softmax = graph_of(
        [helper.make_node("Softmax", ["image"], ["logits"], axis=1)], (3, 16, 16), (3, 16, 16)
    )
    scales = np.array([1, 1, 2, 2], np.float32)
    resize = graph_of(
        [helper.make_node("Resize", ["image", "", "scales"], ["logits"], mode="linear")],
        (3, 16, 16), (3, 32, 32), {"scales": scales},
    )  # fmt: skip
    for graph in (softmax, resize):
        found = require_same({"backbone": graph}, {"backbone": OpenVinoSession(graph, 1)}, SIZE)
        assert found <= 1e-5


def test_nan_in_an_output_is_no_agreement():
    graph = graph_of([helper.make_node("Sqrt", ["image"], ["logits"])], (3, 16, 16), (3, 16, 16))
    with pytest.raises(InvalidSettings, match="off by nan"):
        require_same({"backbone": graph}, {"backbone": OpenVinoSession(graph, 1)}, SIZE)


def test_graphs_are_compared_once_where_a_note_of_it_is_kept(tmp_path, monkeypatch):
    folder, compared = write_model(tmp_path, 3) / "backbone", []

    def counted(*given, **more):
        compared.append(given)
        return require_same(*given, **more)

    monkeypatch.setattr(openvino_loading, "require_same", counted)

    def load(**options):
        return Backbone(folder, providers=("openvino",), device=DeviceOptions(**options))

    load()
    load()
    assert len(compared) == 2
    cache = str(tmp_path / "cache")
    load(engine_cache=cache)
    load(engine_cache=cache)
    assert len(compared) == 3
    (note,) = (tmp_path / "cache").rglob("compared.json")
    assert json.loads(note.read_text())["difference"] < 1e-5
    note.write_text(note.read_text().replace(openvino_session.version(), "2020.1"))
    load(engine_cache=cache)
    assert len(compared) == 4
    note.write_text("{")
    load(engine_cache=cache)
    assert len(compared) == 5


def test_bf16_is_refused_on_a_processor_without_units_for_it(tmp_path, monkeypatch):
    folder = write_model(tmp_path, 3) / "backbone"
    monkeypatch.setattr(openvino_loading, "has_bf16", lambda: False)
    with pytest.raises(InvalidSettings, match=r"bf16: .* has no units for it.*fp32, or auto"):
        Backbone(folder, providers=("openvino",), device=DeviceOptions("bf16"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    folder = write_model(tmp_path, 3) / "backbone"
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match=r"engine_cache: .* cannot be created"):
        Backbone(
            folder,
            providers=("openvino",),
            device=DeviceOptions(engine_cache=str(tmp_path / "file" / "engines")),
        )


def test_an_int8_form_is_required_where_int8_is_asked_for(tmp_path):
    folder = write_model(tmp_path, 3) / "backbone"
    with pytest.raises(InvalidSettings, match=r"is a float backbone; make an int8 one"):
        Backbone(folder, providers=("openvino",), device=DeviceOptions("int8"))


def test_openvino_answers_as_onnxruntime_does(tmp_path):
    folder = write_model(tmp_path, 3) / "backbone"
    images = np.random.default_rng(5).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    own, other = (Backbone(folder, providers=(name,)) for name in ("cpu", "openvino"))
    assert (other.execution_provider, other.precision) == ("OpenVINO", "float32")
    assert own.capabilities == other.capabilities
    for one, two in zip(own.run(images), other.run(images), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5 * np.abs(one).max())
    np.testing.assert_allclose(other.fingerprint(), own.fingerprint(), atol=1e-5)

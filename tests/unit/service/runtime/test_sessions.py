"""Sessions: cached engines, providers that do not start, and graphs that do not load."""

import onnxruntime as ort
import pytest
from small_models import write_model
from textcam_service.errors import ArtefactCorrupt, InvalidSettings
from textcam_service.runtime.providers import CPU, CUDA, TENSORRT
from textcam_service.runtime.sessions import (
    _with_cached_engines,
    make_session,
    require_started,
)


def test_an_engine_that_was_written_by_half_is_made_anew(tmp_path, caplog):
    folder, said = tmp_path / "engines" / "of-this", []

    def made():
        if any(folder.iterdir()):
            raise InvalidSettings("could not deserialize engine from cache")
        (folder / "new.engine").touch()
        return said.append("made") or "session"

    assert _with_cached_engines(folder, made) == "session"
    assert not caplog.records
    assert _with_cached_engines(folder, made) == "session"
    assert said == ["made", "made"]
    (record,) = caplog.records
    assert f"the engines in {folder} are unusable (could not deserialize" in record.message


def test_a_provider_that_fails_without_an_engine_is_told_as_it_is(tmp_path):
    def made():
        raise InvalidSettings("no driver")

    with pytest.raises(InvalidSettings, match="no driver"):
        _with_cached_engines(tmp_path / "engines", made)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match=r"engine_cache: .* cannot be created"):
        _with_cached_engines(tmp_path / "file" / "engines", made)


def test_a_provider_that_did_not_start_is_no_reason_to_run_on_another():
    require_started(TENSORRT, [TENSORRT, CUDA, CPU])
    with pytest.raises(InvalidSettings, match=r"Tensorrt\w+ did not start.*CUDA.*libnvinfer"):
        require_started(TENSORRT, [CUDA, CPU])
    with pytest.raises(InvalidSettings, match=r"CUDAExec\w+ did not start.*CPU.*a driver"):
        require_started(CUDA, [CPU])


@pytest.mark.parametrize("named", [True, False])
def test_a_graph_that_does_not_load_is_corrupt_on_the_cpu(named):
    with pytest.raises(ArtefactCorrupt, match="onnxruntime cannot load the graph"):
        make_session(b"no graph", [(CPU, {})], 1, named=named)


def test_a_session_runs_on_the_threads_it_is_given(tmp_path):
    graph = (write_model(tmp_path, 1) / "backbone" / "backbone.onnx").read_bytes()
    session = make_session(graph, [(CPU, {})], 1, named=True)
    assert isinstance(session, ort.InferenceSession)
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.get_providers() == [CPU]

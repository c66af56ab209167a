"""Which execution providers are asked for, and with which options."""

from pathlib import Path

import pytest
from textcam_service.artefacts.files import sha256
from textcam_service.core.types import Preprocessing
from textcam_service.errors import InvalidSettings
from textcam_service.runtime.providers import (
    CPU,
    CUDA,
    OPENVINO,
    TENSORRT,
    DeviceOptions,
    chosen_providers,
    engines_of,
    provider_options,
)

ALL = (TENSORRT, CUDA, CPU)
SIZE = Preprocessing(256, 240, 224, "bilinear", (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("max_batch", "buckets"),
    [(0, ()), (1, (1,)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12)), (32, (1, 2, 4, 8, 16, 32))],
)
def test_buckets_are_powers_of_two_and_the_largest_batch(max_batch, buckets):
    assert DeviceOptions(max_batch=max_batch).buckets == buckets


@pytest.mark.parametrize(
    ("names", "available", "chosen"),
    [
        ((), (CPU,), (CPU,)),
        ((), ALL, (CUDA, CPU)),  # engines take minutes: only where they are asked for
        (("cuda",), ALL, (CUDA,)),
        (("tensorrt",), ALL, (TENSORRT, CUDA)),
        (("tensorrt", "cpu"), ALL, (TENSORRT, CUDA, CPU)),
        ((CUDA, CPU), ALL, (CUDA, CPU)),
        (("openvino",), (CPU, OPENVINO), (OPENVINO,)),
        ((), (CPU, OPENVINO), (CPU,)),
    ],
)
def test_providers_go_by_short_names_and_tensorrt_leaves_the_head_to_cuda(names, available, chosen):
    assert chosen_providers(names, DeviceOptions(), available) == chosen


def test_a_provider_that_this_build_lacks_is_refused_by_name():
    with pytest.raises(InvalidSettings, match=r"no TensorrtExec\w+, CUDAExec\w+ here.*extra 'gpu'"):
        chosen_providers(("tensorrt",), DeviceOptions(), (CPU,))


def test_openvino_that_is_not_installed_names_its_extra():
    with pytest.raises(InvalidSettings, match=r"OpenVINO is not installed.*extra 'openvino'"):
        chosen_providers(("openvino",), DeviceOptions(), (CPU,))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_int8_backbone_is_not_rounded_again(precision):
    with pytest.raises(InvalidSettings, match=f"serve its float form in {precision}"):
        DeviceOptions(precision).require_form(Path("made"), is_int8=True)
    DeviceOptions("int8").require_form(Path("made"), is_int8=True)
    DeviceOptions().require_form(Path("made"), is_int8=True)


@pytest.mark.parametrize(
    ("names", "precision", "fault"),
    [
        (("cuda",), "fp16", "fp16 is computed by Tensorrt.*put 'tensorrt' first"),
        ((), "fp16", "put 'tensorrt' first"),
        (("cpu",), "tf32", "put 'cuda' first"),
        (("tensorrt",), "tf32", "put 'cuda' first"),
        (("cpu",), "bf16", "bf16 is computed by OpenVINO.*put 'openvino' first"),
    ],
)
def test_a_precision_that_the_provider_does_not_compute_in_is_refused(names, precision, fault):
    with pytest.raises(InvalidSettings, match=fault):
        chosen_providers(names, DeviceOptions(precision=precision), ALL)


def test_tensorrt_keeps_one_engine_for_all_buckets():
    options = DeviceOptions("fp16", engine_cache="/engines", max_batch=32)
    found = provider_options((TENSORRT, CUDA, CPU), options, SIZE, "/engines/of-this")
    assert [name for name, _ in found] == [TENSORRT, CUDA, CPU]
    assert dict(found)[TENSORRT] == {
        "device_id": "0",
        "trt_fp16_enable": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/engines/of-this",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "/engines",
        "trt_profile_min_shapes": "image:1x3x240x224",
        "trt_profile_opt_shapes": "image:32x3x240x224",
        "trt_profile_max_shapes": "image:32x3x240x224",
    }


def test_no_network_finds_another_ones_engines():
    """onnxruntime tells them apart by names in the graph, which versions of a model share."""
    options = DeviceOptions(engine_cache="/engines")
    one, other = (engines_of(sha256(weights), options) for weights in (b"1", b"2"))
    assert Path(one).parent == Path(other).parent == Path("/engines")
    assert one != other
    assert engines_of(sha256(b"1"), DeviceOptions()) == ""


def test_without_a_cache_or_batches_tensorrt_is_told_of_neither():
    ((_, found),) = provider_options((TENSORRT,), DeviceOptions(), SIZE)
    assert found == {"device_id": "0", "trt_fp16_enable": "False"}


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1"), ("fp16", "0")])
def test_cuda_rounds_products_only_where_that_is_asked_for(precision, tf32):
    found = dict(provider_options((CUDA, CPU), DeviceOptions(precision), SIZE))
    assert found[CUDA] == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": tf32,
    }
    assert found[CPU] == {}


def test_the_memory_of_a_gpu_has_a_limit_where_one_is_set():
    ((_, found),) = provider_options((CUDA,), DeviceOptions(gpu_memory_limit=2**30), SIZE)
    assert found["gpu_mem_limit"] == "1073741824"

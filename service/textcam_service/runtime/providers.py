"""Choice of execution providers, onnxruntime's and OpenVINO, and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textcam_service.artefacts.backbone import INPUT
from textcam_service.core.types import Preprocessing
from textcam_service.errors import InvalidSettings

TENSORRT, CUDA, CPU = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)
OPENVINO = "OpenVINO"  # a runtime of its own beside onnxruntime
_SHORT = {"tensorrt": TENSORRT, "cuda": CUDA, "openvino": OPENVINO, "cpu": CPU}
FP32, TF32, FP16, BF16, INT8, AUTO = "fp32", "tf32", "fp16", "bf16", "int8", "auto"
_MAKERS = {FP16: TENSORRT, TF32: CUDA, BF16: OPENVINO}
_DIGITS = 16  # of a digest, in the name of its engines' folder


@dataclass(frozen=True)
class DeviceOptions:
    """Use of a device by a backbone.

    Attributes:
        precision: Precision of products: "fp32"; "tf32", by CUDA, rounded to 10 bits before they
            are added up; "fp16", by TensorRT; "bf16", by OpenVINO; "int8", of an int8 backbone;
            "auto", which model.precision settles.
        engine_cache: Folder for TensorRT's engines and OpenVINO's networks, with a folder per
            network; empty: they are made at each start.
        gpu_memory_limit: Bytes that CUDA's arena may take for each graph; 0: no limit.
        max_batch: Most images of a batch on a device, where batches are padded to the next of
            `buckets`; 0: batches run as they come.
        in_graph: True: maps stay on the device, even if it is the CPU, and are summed there; None:
            only if the device is not the CPU.
        needs_record: False: a bundle may run in bf16 without a record of parity, for it is about to
            be compared.
    """

    precision: str = FP32
    engine_cache: str = ""
    gpu_memory_limit: int = 0
    max_batch: int = 0
    in_graph: bool | None = None
    needs_record: bool = True

    @property
    def buckets(self) -> tuple[int, ...]:
        """Powers of two below max_batch, and max_batch."""
        powers = (1 << place for place in range(self.max_batch.bit_length()))
        below = [own for own in powers if own < self.max_batch]
        return (*below, self.max_batch) if self.max_batch else ()

    def require_form(self, folder: Path, *, is_int8: bool) -> None:
        """Check that a backbone is int8 if that is asked for, and float if it is to be rounded.

        Raises:
            InvalidSettings: It is not.
        """
        if self.precision in {FP16, BF16} and is_int8:
            raise InvalidSettings(
                f"{folder} is an int8 backbone; serve its float form in {self.precision}"
            )
        if self.precision == INT8 and not is_int8:
            raise InvalidSettings(
                f"{folder} is a float backbone; make an int8 one by `textcam quantize`, or choose "
                "fp32"
            )


def chosen_providers(
    names: Sequence[str], options: DeviceOptions, available: Sequence[str]
) -> tuple[str, ...]:
    """Choose execution providers by their full names, in order of preference.

    Args:
        names: Names as in settings: onnxruntime's names, or "tensorrt", "cuda", "openvino", "cpu";
            empty: CUDA if this build of onnxruntime has it, else the CPU. TensorRT leaves the
            head's graphs to CUDA, which is therefore added after it.
        options: Options with the precision that the first provider must support.
        available: Providers of this build of onnxruntime, and OpenVINO if it is installed.

    Raises:
        InvalidSettings: A provider is not available, or the precision is another provider's.
    """
    full = [_SHORT.get(name, name) for name in names]
    if not full:
        full = [name for name in (CUDA, CPU) if name in available]
    if full[0] == TENSORRT and CUDA not in full:
        full.insert(1, CUDA)
    missing = [name for name in full if name not in available]
    if OPENVINO in missing:
        raise InvalidSettings(
            "OpenVINO is not installed here; install the extra 'openvino' beside 'service', or "
            "choose another provider"
        )
    if missing:
        raise InvalidSettings(
            f"onnxruntime has no {', '.join(missing)} here, only {', '.join(available)}; "
            "install the extra 'gpu' in place of 'service', or choose another provider"
        )
    maker = _MAKERS.get(options.precision)
    if maker is not None and full[0] != maker:
        short = next(short for short, name in _SHORT.items() if name == maker)
        raise InvalidSettings(
            f"precision {options.precision} is computed by {maker}, and the first provider is "
            f"{full[0]}: put '{short}' first in `providers`, or choose precision {FP32}"
        )
    return tuple(full)


def provider_options(
    names: Sequence[str], options: DeviceOptions, size: Preprocessing, engines: str = ""
) -> list[tuple[str, dict[str, str]]]:
    """Pair each provider with its options, as onnxruntime takes them.

    Args:
        names: Full names.
        options: See DeviceOptions.
        size: Size of the trunk's input.
        engines: Folder of this network's engines; see engines_of().
    """
    known: Mapping[str, dict[str, str]] = {
        TENSORRT: _tensorrt(options, size, engines) if TENSORRT in names else {},
        CUDA: _cuda(options),
    }
    return [(name, known.get(name, {})) for name in names]


def engines_of(digest: str, options: DeviceOptions) -> str:
    """Name the folder of a network's engines; empty: engines are not kept.

    onnxruntime identifies an engine by the names in its graph, and OpenVINO a network by its file's
    path and time, not by the weights. In one folder, a model's next version would run on the
    previous version's engine.

    Args:
        digest: Digest of the network's file.
        options: See DeviceOptions.
    """
    if not options.engine_cache:
        return ""
    return str(Path(options.engine_cache, digest.removeprefix("sha256:")[:_DIGITS]))


def _cuda(options: DeviceOptions) -> dict[str, str]:
    limit = {"gpu_mem_limit": str(options.gpu_memory_limit)} if options.gpu_memory_limit else {}
    return {
        "device_id": "0",
        # Other settings search again, or find other kernels, in each process.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": str(int(options.precision == TF32)),
        **limit,
    }


def _tensorrt(options: DeviceOptions, size: Preprocessing, engines: str) -> dict[str, str]:
    found = {"device_id": "0", "trt_fp16_enable": str(options.precision == FP16)}
    if engines:
        found |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": engines,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": options.engine_cache,
        }
    if options.max_batch:
        # One engine for all buckets; without a range, each larger batch builds it again.
        for name, count in (("min", 1), ("opt", options.max_batch), ("max", options.max_batch)):
            shape = f"{count}x3x{size.height}x{size.width}"
            found[f"trt_profile_{name}_shapes"] = f"{INPUT}:{shape}"
    return found

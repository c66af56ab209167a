"""The Open Inference Protocol v2 over the same desk: images in, explanations out as tensors.

Each image of a batch becomes an ExplainRequest; what a platform's standard client reads are the
answer's parts by name. Tensors and their contents: serving/oip_tensors.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_service.bundle import ModelBundle
from textcam_service.errors import InvalidArgument, InvalidTensor, TextCamError
from textcam_service.serving.answers import tensor_message
from textcam_service.serving.desk import Desk
from textcam_service.serving.oip_tensors import Array, add_output, read_input
from textcam_service.serving.pipeline import Pipeline
from textcam_service.serving.schedule import Lane
from textcam_service.serving.servicer import deadline_of
from textcam_service.serving.status import code_of, reason_of, status_of
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__

PLATFORM = "textcam"
_IMAGE, _PIXELS = "image", "pixels"
_WHOLE = ("int64_param", "uint64_param")
_MOST = 2**31 - 1
# Of a request that platforms may add, and that say nothing about explaining.
_PASSED_OVER = {"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}


def _outputs(phrases: int, bundle: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each output of one image; `phrases` of them."""
    manifest = bundle.backbone.manifest
    cells, classes = (manifest.map_height, manifest.map_width), (len(bundle.class_names),)
    return {
        "logits": ("FP32", classes),
        "probabilities": ("FP32", classes),
        "class_index": ("INT64", ()),
        "class_name": ("BYTES", ()),
        "saliency_map": ("FP32", cells),
        "phrases": ("BYTES", (phrases,)),
        "evidence": ("FP32", (phrases,)),
        "group_maps": ("FP32", (phrases, *cells)),
        "rest_map": ("FP32", cells),
        "rest_evidence": ("FP32", ()),
        "bias": ("FP32", ()),
        "gap": ("FP32", ()),
        "sentence": ("BYTES", ()),
    }


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """inference.GRPCInferenceService.

    Args:
        desk: Where images are explained.
        settings: See ServerSettings.
        is_ready: Whether a model can take requests; "": whether the server can.
    """

    def __init__(
        self, desk: Desk, settings: ServerSettings, is_ready: Callable[[str], bool]
    ) -> None:
        self._desk = desk
        self._settings = settings
        self._is_ready = is_ready

    async def ServerLive(self, request: Any, context: Any) -> oip.ServerLiveResponse:  # noqa: N802
        """Say that the server runs."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerReadyResponse:
        """Say whether the server can take requests."""
        del request, context
        return oip.ServerReadyResponse(ready=self._is_ready(""))

    async def ModelReady(  # noqa: N802
        self, request: oip.ModelReadyRequest, context: Any
    ) -> oip.ModelReadyResponse:
        """Say whether a model can take requests; NOT_FOUND where it is not served."""
        bundle = await self._bundle(request.name, request.version, context)
        return oip.ModelReadyResponse(ready=self._is_ready(bundle.name))

    async def ServerMetadata(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerMetadataResponse:
        """Name and version of the server."""
        del request, context
        return oip.ServerMetadataResponse(name="textcam", version=__version__)

    async def ModelMetadata(  # noqa: N802
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """Describe a model's inputs and outputs; -1: any extent."""
        bundle = await self._bundle(request.name, request.version, context)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        outputs = _outputs(-1, bundle).items()
        return oip.ModelMetadataResponse(
            name=bundle.name,
            versions=self._desk.models.versions(bundle.name),
            platform=PLATFORM,
            inputs=[
                tensor(name=_IMAGE, datatype="BYTES", shape=[-1]),
                tensor(name=_PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3]),
            ],
            outputs=[
                tensor(name=name, datatype=kind, shape=[-1, *shape])
                for name, (kind, shape) in outputs
            ],
        )

    async def ModelInfer(  # noqa: N802
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> oip.ModelInferResponse:
        """Explain a batch of images; one that fails, fails the call."""
        spec = pb.ModelSpec(name=request.model_name, version=request.model_version)
        with ExitStack() as leases:
            try:
                # One lease for the whole batch: all of it is answered by one version.
                pipeline = leases.enter_context(self._desk.lease(spec))
                asked = self._read(request, pipeline.bundle)
                self._desk.charge(pipeline.bundle.name, len(asked))
            except TextCamError as error:
                self._desk.count("ModelInfer", code_of(error), reason_of(error))
                await context.abort_with_status(rpc_status.to_status(status_of(error)))
            answers = await self._answers(asked, pipeline, context)
            return self._response(request, asked[0].phrases, answers, pipeline.bundle)

    async def _answers(
        self,
        asked: list[pb.ExplainRequest],
        pipeline: Pipeline,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Sequence[Any]:
        slots, deadline = asyncio.Semaphore(self._settings.stream_concurrency), deadline_of(context)
        metadata = context.invocation_metadata() or ()

        async def answer(one: pb.ExplainRequest) -> pb.ExplainResponse | Status:
            async with slots:
                return await self._desk.answer(
                    "ModelInfer", one, deadline, Lane.INTERACTIVE, metadata, pipeline
                )

        tasks = [asyncio.create_task(answer(one)) for one in asked]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        for place, failed in enumerate(answers):
            if isinstance(failed, Status):
                failed.message = f"image {place} of {len(asked)}: {failed.message}"
                await context.abort_with_status(rpc_status.to_status(failed))
        return answers

    async def _bundle(self, name: str, version: str, context: Any) -> ModelBundle:
        try:
            return self._desk.bundle(pb.ModelSpec(name=name, version=version))
        except TextCamError as error:
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
            raise  # not reached: abort raises

    def _read(self, request: oip.ModelInferRequest, bundle: ModelBundle) -> list[pb.ExplainRequest]:
        """One ExplainRequest per image.

        Raises:
            InvalidRequest: Inputs, outputs or parameters are not those of ModelMetadata.
        """
        known = _outputs(0, bundle)
        for place, output in enumerate(request.outputs):
            if output.name not in known:
                raise InvalidArgument(
                    f"there is no output '{output.name}', only {', '.join(known)}",
                    field=f"outputs[{place}].name",
                )
        template = _template(request, self._settings)
        template.groups = not request.outputs or any(
            output.name == "group_maps" for output in request.outputs
        )
        template.predictions = len(bundle.class_names)
        if len(request.inputs) != 1 or request.inputs[0].name not in (_IMAGE, _PIXELS):
            raise InvalidTensor(
                f"the one input is '{_IMAGE}' (BYTES: image files) or '{_PIXELS}' (UINT8: RGB)",
                field="inputs",
            )
        asked = []
        for image in _images(read_input(request, 0)):
            one = pb.ExplainRequest()
            one.CopyFrom(template)
            if isinstance(image, bytes):
                one.encoded = image
            else:
                one.pixels.CopyFrom(tensor_message(image))
            asked.append(one)
        return asked

    def _response(
        self,
        request: oip.ModelInferRequest,
        phrases: int,
        answers: Sequence[Any],
        bundle: ModelBundle,
    ) -> oip.ModelInferResponse:
        known = _outputs(phrases, bundle)
        parts = [_parts(answer, known) for answer in answers]
        response = oip.ModelInferResponse(
            model_name=bundle.name, model_version=bundle.version, id=request.id
        )
        provenance = answers[0].provenance
        for name in ("backbone_digest", "bank_digest", "vocabulary_digest", "method"):
            response.parameters[name].string_param = getattr(provenance, name)
        raw = bool(request.raw_input_contents)
        for name in [output.name for output in request.outputs] or known:
            kind, _ = known[name]
            add_output(response, name, kind, np.stack([part[name] for part in parts]), raw=raw)
        return response


def _images(images: Array) -> list[bytes] | list[Array]:
    """The batch's images: bytes, or (h, w, 3) uint8."""
    if images.dtype == object:
        return list(images.reshape(-1))
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape) < 1:
        raise InvalidTensor(
            f"'{_PIXELS}' has shape [n, h, w, 3] or [h, w, 3], not {list(images.shape)}",
            field="inputs[0].shape",
        )
    return list(images)


def _template(request: oip.ModelInferRequest, settings: ServerSettings) -> pb.ExplainRequest:
    """An ExplainRequest without its image, of a request's parameters."""
    template = pb.ExplainRequest(
        heatmap=pb.HEATMAP_FORM_SALIENCY,
        phrases=settings.default_phrases,
    )
    for name, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, kind) if kind else None
        if name == "phrases" and kind in _WHOLE:
            template.phrases = min(int(value or 0), _MOST)
        elif name == "class" and kind in _WHOLE:
            template.target.classes.classes.add(index=min(int(value or 0), _MOST))
        elif name == "class" and isinstance(value, str):
            template.target.classes.classes.add(name=value)
        elif name == "method" and isinstance(value, str):
            number = f"CAM_METHOD_{value.upper()}"
            if number not in pb.CamMethod.keys():  # noqa: SIM118 - an enum, not a mapping
                raise InvalidArgument(f"there is no CAM method '{value}'", field="parameters")
            template.method = pb.CamMethod.Value(number)
        elif name not in _PASSED_OVER:
            raise InvalidArgument(
                f"the parameter '{name}' is not taken as it stands; there are 'phrases' (int64), "
                "'class' (int64 or string) and 'method' (string)",
                field="parameters",
            )
    return template


def _parts(answer: pb.ExplainResponse, known: dict[str, tuple[str, tuple[int, ...]]]) -> Any:
    """One answer's outputs by name; where fewer phrases were found, the last are empty."""
    (explanation,) = answer.explanations
    ranked = sorted(answer.predictions, key=lambda prediction: prediction.class_index)
    (count,), cells = known["phrases"][1], known["saliency_map"][1]
    words = np.full(count, b"", object)
    evidence = np.zeros(count, np.float32)
    maps = np.zeros((count, *cells), np.float32)
    for place, phrase in enumerate(explanation.phrases):
        words[place] = phrase.text.encode()
        evidence[place] = phrase.evidence
    for place, group in enumerate(explanation.groups):
        maps[place] = _map(group.saliency_map)
    has_rest = explanation.rest.HasField("saliency_map")
    return {
        "logits": np.array([prediction.logit for prediction in ranked]),
        "probabilities": np.array([prediction.probability for prediction in ranked]),
        "class_index": np.int64(explanation.target.class_index),
        "class_name": np.array(explanation.target.class_name.encode(), object),
        "saliency_map": _map(explanation.saliency_map),
        "phrases": words,
        "evidence": evidence,
        "group_maps": maps,
        "rest_map": _map(explanation.rest.saliency_map) if has_rest else np.zeros(cells),
        "rest_evidence": np.float32(explanation.rest.evidence),
        "bias": np.float32(explanation.bias),
        "gap": np.float32(explanation.gap),
        "sentence": np.array(explanation.sentence.encode(), object),
    }


def _map(tensor: pb.Tensor) -> Array:
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))

from google.rpc import status_pb2 as _status_pb2
from textcam.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("request_id", "model", "encoded", "pixels", "target", "max_phrases", "min_probability", "kinds", "repeat_class", "include_groups", "heatmap", "prediction_count", "method", "lane", "may_degrade", "include_channel_evidence")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MAX_PHRASES_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    REPEAT_CLASS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    MAY_DEGRADE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CHANNEL_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _types_pb2.ModelSpec
    encoded: bytes
    pixels: _types_pb2.Tensor
    target: _types_pb2.Target
    max_phrases: int
    min_probability: float
    kinds: _containers.RepeatedScalarFieldContainer[_types_pb2.PhraseKind]
    repeat_class: bool
    include_groups: bool
    heatmap: _types_pb2.HeatmapForm
    prediction_count: int
    method: _types_pb2.CamMethod
    lane: _types_pb2.Lane
    may_degrade: bool
    include_channel_evidence: bool
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_types_pb2.ModelSpec, _Mapping]] = ..., encoded: _Optional[bytes] = ..., pixels: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., max_phrases: _Optional[int] = ..., min_probability: _Optional[float] = ..., kinds: _Optional[_Iterable[_Union[_types_pb2.PhraseKind, str]]] = ..., repeat_class: bool = ..., include_groups: bool = ..., heatmap: _Optional[_Union[_types_pb2.HeatmapForm, str]] = ..., prediction_count: _Optional[int] = ..., method: _Optional[_Union[_types_pb2.CamMethod, str]] = ..., lane: _Optional[_Union[_types_pb2.Lane, str]] = ..., may_degrade: bool = ..., include_channel_evidence: bool = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("request_id", "predictions", "explanations", "image_height", "image_width", "crop", "provenance", "timings", "degradations", "digests")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DEGRADATIONS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    predictions: _containers.RepeatedCompositeFieldContainer[_types_pb2.Prediction]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    image_height: int
    image_width: int
    crop: _types_pb2.Crop
    provenance: _types_pb2.Provenance
    timings: _types_pb2.Timings
    degradations: _containers.RepeatedScalarFieldContainer[_types_pb2.Degradation]
    digests: _types_pb2.StageDigests
    def __init__(self, request_id: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[_types_pb2.Prediction, _Mapping]]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., image_height: _Optional[int] = ..., image_width: _Optional[int] = ..., crop: _Optional[_Union[_types_pb2.Crop, _Mapping]] = ..., provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., degradations: _Optional[_Iterable[_Union[_types_pb2.Degradation, str]]] = ..., digests: _Optional[_Union[_types_pb2.StageDigests, _Mapping]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("target", "reference", "logit", "bias", "gap", "in_logit_units", "phrases", "groups", "rest", "saliency_map", "heatmap", "sentence", "network_passes", "head_passes", "channel_evidence")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    IN_LOGIT_UNITS_FIELD_NUMBER: _ClassVar[int]
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_MAP_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_PASSES_FIELD_NUMBER: _ClassVar[int]
    HEAD_PASSES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    target: _types_pb2.Prediction
    reference: _types_pb2.Prediction
    logit: float
    bias: float
    gap: float
    in_logit_units: bool
    phrases: _containers.RepeatedCompositeFieldContainer[_types_pb2.Phrase]
    groups: _containers.RepeatedCompositeFieldContainer[_types_pb2.SaliencyGroup]
    rest: _types_pb2.SaliencyGroup
    saliency_map: _types_pb2.Tensor
    heatmap: _types_pb2.Heatmap
    sentence: str
    network_passes: int
    head_passes: int
    channel_evidence: _types_pb2.Tensor
    def __init__(self, target: _Optional[_Union[_types_pb2.Prediction, _Mapping]] = ..., reference: _Optional[_Union[_types_pb2.Prediction, _Mapping]] = ..., logit: _Optional[float] = ..., bias: _Optional[float] = ..., gap: _Optional[float] = ..., in_logit_units: bool = ..., phrases: _Optional[_Iterable[_Union[_types_pb2.Phrase, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[_types_pb2.SaliencyGroup, _Mapping]]] = ..., rest: _Optional[_Union[_types_pb2.SaliencyGroup, _Mapping]] = ..., saliency_map: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., heatmap: _Optional[_Union[_types_pb2.Heatmap, _Mapping]] = ..., sentence: _Optional[str] = ..., network_passes: _Optional[int] = ..., head_passes: _Optional[int] = ..., channel_evidence: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ExplainStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: ExplainRequest
    def __init__(self, request: _Optional[_Union[ExplainRequest, _Mapping]] = ...) -> None: ...

class ExplainStreamResponse(_message.Message):
    __slots__ = ("request_id", "response", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: ExplainResponse
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[_Union[ExplainResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "version", "class_count", "phrase_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLASS_COUNT_FIELD_NUMBER: _ClassVar[int]
    PHRASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    class_count: int
    phrase_count: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., class_count: _Optional[int] = ..., phrase_count: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSpec
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSpec, _Mapping]] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("summary", "class_names", "vocabulary", "architecture", "target_layer", "input_height", "input_width", "map_height", "map_width", "channel_count", "dead_channel_count", "provenance", "methods", "multi_label", "channel_phrases")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LAYER_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAP_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAP_WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEAD_CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    MULTI_LABEL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_PHRASES_FIELD_NUMBER: _ClassVar[int]
    summary: ModelSummary
    class_names: _containers.RepeatedScalarFieldContainer[str]
    vocabulary: _containers.RepeatedScalarFieldContainer[str]
    architecture: str
    target_layer: str
    input_height: int
    input_width: int
    map_height: int
    map_width: int
    channel_count: int
    dead_channel_count: int
    provenance: _types_pb2.Provenance
    methods: _containers.RepeatedScalarFieldContainer[_types_pb2.CamMethod]
    multi_label: bool
    channel_phrases: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, summary: _Optional[_Union[ModelSummary, _Mapping]] = ..., class_names: _Optional[_Iterable[str]] = ..., vocabulary: _Optional[_Iterable[str]] = ..., architecture: _Optional[str] = ..., target_layer: _Optional[str] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., map_height: _Optional[int] = ..., map_width: _Optional[int] = ..., channel_count: _Optional[int] = ..., dead_channel_count: _Optional[int] = ..., provenance: _Optional[_Union[_types_pb2.Provenance, _Mapping]] = ..., methods: _Optional[_Iterable[_Union[_types_pb2.CamMethod, str]]] = ..., multi_label: bool = ..., channel_phrases: _Optional[_Iterable[int]] = ...) -> None: ...

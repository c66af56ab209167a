import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CamMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAM_METHOD_UNSPECIFIED: _ClassVar[CamMethod]
    CAM_METHOD_CAM: _ClassVar[CamMethod]
    CAM_METHOD_GRAD_CAM: _ClassVar[CamMethod]
    CAM_METHOD_GRAD_CAM_PLUS_PLUS: _ClassVar[CamMethod]
    CAM_METHOD_XGRAD_CAM: _ClassVar[CamMethod]
    CAM_METHOD_HIRES_CAM: _ClassVar[CamMethod]
    CAM_METHOD_LAYER_CAM: _ClassVar[CamMethod]
    CAM_METHOD_EIGEN_CAM: _ClassVar[CamMethod]
    CAM_METHOD_EIGEN_GRAD_CAM: _ClassVar[CamMethod]
    CAM_METHOD_SCORE_CAM: _ClassVar[CamMethod]
    CAM_METHOD_SS_CAM: _ClassVar[CamMethod]
    CAM_METHOD_ABLATION_CAM: _ClassVar[CamMethod]
    CAM_METHOD_RECIPRO_CAM: _ClassVar[CamMethod]
    CAM_METHOD_FINER_CAM: _ClassVar[CamMethod]
    CAM_METHOD_DECOM_CAM: _ClassVar[CamMethod]
    CAM_METHOD_INTEGRATIVE_CAM: _ClassVar[CamMethod]
    CAM_METHOD_VS_CAM: _ClassVar[CamMethod]
    CAM_METHOD_LEGRAD: _ClassVar[CamMethod]

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_INTERACTIVE: _ClassVar[Lane]
    LANE_AUDIT: _ClassVar[Lane]

class HeatmapForm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEATMAP_FORM_UNSPECIFIED: _ClassVar[HeatmapForm]
    HEATMAP_FORM_NONE: _ClassVar[HeatmapForm]
    HEATMAP_FORM_SALIENCY: _ClassVar[HeatmapForm]
    HEATMAP_FORM_IMAGE: _ClassVar[HeatmapForm]
    HEATMAP_FORM_OVERLAY: _ClassVar[HeatmapForm]

class Degradation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_UNSPECIFIED: _ClassVar[Degradation]
    DEGRADATION_SMALLER_MAPS: _ClassVar[Degradation]
    DEGRADATION_NO_GROUPS: _ClassVar[Degradation]
    DEGRADATION_FEWER_TARGETS: _ClassVar[Degradation]

class PhraseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHRASE_KIND_UNSPECIFIED: _ClassVar[PhraseKind]
    PHRASE_KIND_THING: _ClassVar[PhraseKind]
    PHRASE_KIND_PART: _ClassVar[PhraseKind]
    PHRASE_KIND_MATERIAL: _ClassVar[PhraseKind]
    PHRASE_KIND_TEXTURE: _ClassVar[PhraseKind]
    PHRASE_KIND_COLOUR: _ClassVar[PhraseKind]
    PHRASE_KIND_SHAPE: _ClassVar[PhraseKind]
    PHRASE_KIND_SCENE: _ClassVar[PhraseKind]
    PHRASE_KIND_CATEGORY: _ClassVar[PhraseKind]
CAM_METHOD_UNSPECIFIED: CamMethod
CAM_METHOD_CAM: CamMethod
CAM_METHOD_GRAD_CAM: CamMethod
CAM_METHOD_GRAD_CAM_PLUS_PLUS: CamMethod
CAM_METHOD_XGRAD_CAM: CamMethod
CAM_METHOD_HIRES_CAM: CamMethod
CAM_METHOD_LAYER_CAM: CamMethod
CAM_METHOD_EIGEN_CAM: CamMethod
CAM_METHOD_EIGEN_GRAD_CAM: CamMethod
CAM_METHOD_SCORE_CAM: CamMethod
CAM_METHOD_SS_CAM: CamMethod
CAM_METHOD_ABLATION_CAM: CamMethod
CAM_METHOD_RECIPRO_CAM: CamMethod
CAM_METHOD_FINER_CAM: CamMethod
CAM_METHOD_DECOM_CAM: CamMethod
CAM_METHOD_INTEGRATIVE_CAM: CamMethod
CAM_METHOD_VS_CAM: CamMethod
CAM_METHOD_LEGRAD: CamMethod
LANE_UNSPECIFIED: Lane
LANE_INTERACTIVE: Lane
LANE_AUDIT: Lane
HEATMAP_FORM_UNSPECIFIED: HeatmapForm
HEATMAP_FORM_NONE: HeatmapForm
HEATMAP_FORM_SALIENCY: HeatmapForm
HEATMAP_FORM_IMAGE: HeatmapForm
HEATMAP_FORM_OVERLAY: HeatmapForm
DEGRADATION_UNSPECIFIED: Degradation
DEGRADATION_SMALLER_MAPS: Degradation
DEGRADATION_NO_GROUPS: Degradation
DEGRADATION_FEWER_TARGETS: Degradation
PHRASE_KIND_UNSPECIFIED: PhraseKind
PHRASE_KIND_THING: PhraseKind
PHRASE_KIND_PART: PhraseKind
PHRASE_KIND_MATERIAL: PhraseKind
PHRASE_KIND_TEXTURE: PhraseKind
PHRASE_KIND_COLOUR: PhraseKind
PHRASE_KIND_SHAPE: PhraseKind
PHRASE_KIND_SCENE: PhraseKind
PHRASE_KIND_CATEGORY: PhraseKind

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        D_TYPE_UNSPECIFIED: _ClassVar[Tensor.DType]
        D_TYPE_UINT8: _ClassVar[Tensor.DType]
        D_TYPE_FLOAT32: _ClassVar[Tensor.DType]
    D_TYPE_UNSPECIFIED: Tensor.DType
    D_TYPE_UINT8: Tensor.DType
    D_TYPE_FLOAT32: Tensor.DType
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: Tensor.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[Tensor.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ClassRef(_message.Message):
    __slots__ = ("index", "name")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    index: int
    name: str
    def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("top_k", "classes", "contrast")
    class TopK(_message.Message):
        __slots__ = ("k",)
        K_FIELD_NUMBER: _ClassVar[int]
        k: int
        def __init__(self, k: _Optional[int] = ...) -> None: ...
    class Classes(_message.Message):
        __slots__ = ("classes",)
        CLASSES_FIELD_NUMBER: _ClassVar[int]
        classes: _containers.RepeatedCompositeFieldContainer[ClassRef]
        def __init__(self, classes: _Optional[_Iterable[_Union[ClassRef, _Mapping]]] = ...) -> None: ...
    class Contrast(_message.Message):
        __slots__ = ("target", "reference")
        TARGET_FIELD_NUMBER: _ClassVar[int]
        REFERENCE_FIELD_NUMBER: _ClassVar[int]
        target: ClassRef
        reference: ClassRef
        def __init__(self, target: _Optional[_Union[ClassRef, _Mapping]] = ..., reference: _Optional[_Union[ClassRef, _Mapping]] = ...) -> None: ...
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    top_k: Target.TopK
    classes: Target.Classes
    contrast: Target.Contrast
    def __init__(self, top_k: _Optional[_Union[Target.TopK, _Mapping]] = ..., classes: _Optional[_Union[Target.Classes, _Mapping]] = ..., contrast: _Optional[_Union[Target.Contrast, _Mapping]] = ...) -> None: ...

class Heatmap(_message.Message):
    __slots__ = ("image", "overlay_png")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_PNG_FIELD_NUMBER: _ClassVar[int]
    image: Tensor
    overlay_png: bytes
    def __init__(self, image: _Optional[_Union[Tensor, _Mapping]] = ..., overlay_png: _Optional[bytes] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("class_index", "class_name", "probability", "logit")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_name: str
    probability: float
    logit: float
    def __init__(self, class_index: _Optional[int] = ..., class_name: _Optional[str] = ..., probability: _Optional[float] = ..., logit: _Optional[float] = ...) -> None: ...

class Phrase(_message.Message):
    __slots__ = ("text", "vocabulary_index", "kind", "score", "similarity", "probability", "evidence", "effect")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    text: str
    vocabulary_index: int
    kind: PhraseKind
    score: float
    similarity: float
    probability: float
    evidence: float
    effect: float
    def __init__(self, text: _Optional[str] = ..., vocabulary_index: _Optional[int] = ..., kind: _Optional[_Union[PhraseKind, str]] = ..., score: _Optional[float] = ..., similarity: _Optional[float] = ..., probability: _Optional[float] = ..., evidence: _Optional[float] = ..., effect: _Optional[float] = ...) -> None: ...

class SaliencyGroup(_message.Message):
    __slots__ = ("phrase_index", "channel_ids", "evidence", "evidence_for", "evidence_against", "saliency_map", "relative_map", "heatmap")
    PHRASE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_IDS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FOR_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_AGAINST_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_MAP_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_MAP_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    phrase_index: int
    channel_ids: _containers.RepeatedScalarFieldContainer[int]
    evidence: float
    evidence_for: float
    evidence_against: float
    saliency_map: Tensor
    relative_map: Tensor
    heatmap: Heatmap
    def __init__(self, phrase_index: _Optional[int] = ..., channel_ids: _Optional[_Iterable[int]] = ..., evidence: _Optional[float] = ..., evidence_for: _Optional[float] = ..., evidence_against: _Optional[float] = ..., saliency_map: _Optional[_Union[Tensor, _Mapping]] = ..., relative_map: _Optional[_Union[Tensor, _Mapping]] = ..., heatmap: _Optional[_Union[Heatmap, _Mapping]] = ...) -> None: ...

class Crop(_message.Message):
    __slots__ = ("left", "top", "width", "height", "shift_x", "shift_y")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SHIFT_X_FIELD_NUMBER: _ClassVar[int]
    SHIFT_Y_FIELD_NUMBER: _ClassVar[int]
    left: float
    top: float
    width: float
    height: float
    shift_x: float
    shift_y: float
    def __init__(self, left: _Optional[float] = ..., top: _Optional[float] = ..., width: _Optional[float] = ..., height: _Optional[float] = ..., shift_x: _Optional[float] = ..., shift_y: _Optional[float] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("model_name", "model_version", "backbone_digest", "bank_digest", "vocabulary_digest", "service_version", "decoder", "execution_provider", "method", "parameters", "layers", "head_kind", "calibration")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BANK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    HEAD_KIND_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    backbone_digest: str
    bank_digest: str
    vocabulary_digest: str
    service_version: str
    decoder: str
    execution_provider: str
    method: CamMethod
    parameters: _containers.ScalarMap[str, str]
    layers: _containers.RepeatedScalarFieldContainer[str]
    head_kind: str
    calibration: Calibration
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., backbone_digest: _Optional[str] = ..., bank_digest: _Optional[str] = ..., vocabulary_digest: _Optional[str] = ..., service_version: _Optional[str] = ..., decoder: _Optional[str] = ..., execution_provider: _Optional[str] = ..., method: _Optional[_Union[CamMethod, str]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., layers: _Optional[_Iterable[str]] = ..., head_kind: _Optional[str] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("source", "images", "min_probability", "expected_calibration_error", "bins")
    class Bin(_message.Message):
        __slots__ = ("lower", "upper", "probability", "observed", "count")
        LOWER_FIELD_NUMBER: _ClassVar[int]
        UPPER_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        OBSERVED_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        lower: float
        upper: float
        probability: float
        observed: float
        count: int
        def __init__(self, lower: _Optional[float] = ..., upper: _Optional[float] = ..., probability: _Optional[float] = ..., observed: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    BINS_FIELD_NUMBER: _ClassVar[int]
    source: str
    images: int
    min_probability: float
    expected_calibration_error: float
    bins: _containers.RepeatedCompositeFieldContainer[Calibration.Bin]
    def __init__(self, source: _Optional[str] = ..., images: _Optional[int] = ..., min_probability: _Optional[float] = ..., expected_calibration_error: _Optional[float] = ..., bins: _Optional[_Iterable[_Union[Calibration.Bin, _Mapping]]] = ...) -> None: ...

class StageDigests(_message.Message):
    __slots__ = ("pixels", "activations")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    pixels: str
    activations: str
    def __init__(self, pixels: _Optional[str] = ..., activations: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("decode", "queue", "inference", "attribution", "rationale", "encode")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    RATIONALE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    decode: _duration_pb2.Duration
    queue: _duration_pb2.Duration
    inference: _duration_pb2.Duration
    attribution: _duration_pb2.Duration
    rationale: _duration_pb2.Duration
    encode: _duration_pb2.Duration
    def __init__(self, decode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inference: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., attribution: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rationale: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

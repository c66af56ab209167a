"""Between the contract's messages and the domain's values: requests are read, answers built."""

from textcam_service.serving.answers import (
    Scene,
    check_size,
    explanation_message,
    method_number,
    model_message,
    prediction_message,
    provenance_message,
    response_message,
    summary_message,
    tensor_message,
)
from textcam_service.serving.requests import (
    Classes,
    Job,
    TopK,
    method_name,
    read_image_field,
    read_model,
    read_request,
)

__all__ = [
    "Classes",
    "Job",
    "Scene",
    "TopK",
    "check_size",
    "explanation_message",
    "method_name",
    "method_number",
    "model_message",
    "prediction_message",
    "provenance_message",
    "read_image_field",
    "read_model",
    "read_request",
    "response_message",
    "summary_message",
    "tensor_message",
]

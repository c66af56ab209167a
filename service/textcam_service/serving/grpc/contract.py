"""Names of the services and methods in the contracts."""

from __future__ import annotations

from textcam.oip import open_inference_pb2
from textcam.v1 import explainer_pb2

EXPLAINER = explainer_pb2.DESCRIPTOR.services_by_name["ExplainerService"].full_name
OPEN_INFERENCE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
METHOD_NAMES = {
    method.name: f"{service.full_name}/{method.name}"
    for file in (explainer_pb2, open_inference_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Full names of the contracts' methods, by short name."""
GRANTABLE_METHODS = frozenset({*METHOD_NAMES, "ServerReflectionInfo"})
"""Short names of the methods that a caller may be granted."""

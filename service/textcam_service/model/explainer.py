"""Explanation of one image by a loaded model, in the calling thread.

The server runs the same steps, but interleaves a method's queries with other requests' batches.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.cam import channel_evidence
from textcam_service.core.methods import CamTerms, MethodInput, MethodSettings, run_method
from textcam_service.core.rationale.rationale import ExplainedScore, explain_target
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import Float32Array, Float64Array, Prediction, Rationale
from textcam_service.core.vertices import Vertices, placed
from textcam_service.model.bundle import ModelBundle, default_method
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.output import BackboneOutput


def method_input(
    bundle: ModelBundle,
    output: BackboneOutput,
    image: Float32Array,
    target: Prediction,
    reference: Prediction | None,
) -> MethodInput:
    """Gather the input of a CAM method for one target.

    Args:
        bundle: The model.
        output: Output of its backbone for the image.
        image: (3, h, w) the network's input.
        target: The class to explain, with its logit.
        reference: The class to explain it against; None: the target's logit alone.
    """
    against = None if reference is None else reference.class_index
    return _method_input(bundle.backbone, output, image, target.class_index, against)


def attribute(
    bundle: ModelBundle,
    output: BackboneOutput,
    image: Float32Array,
    target: Prediction,
    reference: Prediction | None,
) -> CamTerms:
    """Run the bundle's default CAM method on one target; arguments as for method_input."""
    steps = bundle.default_method.queries(
        method_input(bundle, output, image, target, reference), MethodSettings()
    )
    return run_method(steps, lambda query: bundle.backbone.query(query, output))


def make_rationale(
    bundle: ModelBundle,
    output: BackboneOutput,
    terms: CamTerms,
    target: Prediction,
    reference: Prediction | None,
    phrase_filter: PhraseFilter,
    vertices: Vertices | None = None,
) -> Rationale:
    """Turn the result of a CAM method into phrases and groups.

    Args:
        bundle: The model.
        output: Output of its backbone for the image.
        terms: Result of the CAM method.
        target: The explained class, with its logit.
        reference: The class it is explained against; None: the target's logit alone.
        phrase_filter: Requested number and kinds of phrases.
        vertices: Positions of the maps' vertices; None: the maps lie on a grid.
    """
    bias = bundle.backbone.head_bias
    biases = bias if len(bias) else np.zeros(len(bundle.class_names))
    logit, offset = target.logit, float(biases[target.class_index])
    if reference is not None:
        logit -= reference.logit
        offset -= float(biases[reference.class_index])
    rationale = explain_target(
        output.activation_maps,
        terms,
        ExplainedScore(output.logits, target.class_index, logit, offset),
        bundle.phrases,
        bundle.wording,
        phrase_filter,
    )
    return rationale if vertices is None else placed(rationale, vertices)


def predicted_evidence(
    backbone: Backbone, output: BackboneOutput, image: Float32Array
) -> Float64Array:
    """Compute each channel's evidence (D,) for the predicted class, by the default method."""
    inputs = _method_input(backbone, output, image, int(output.logits.argmax()), None)
    steps = default_method(backbone).queries(inputs, MethodSettings())
    terms = run_method(steps, lambda query: backbone.query(query, output))
    return channel_evidence(terms.weights, output.activation_maps)


def _method_input(
    backbone: Backbone,
    output: BackboneOutput,
    image: Float32Array,
    target: int,
    reference: int | None,
) -> MethodInput:
    class_weights = np.zeros(len(output.logits))
    class_weights[target] = 1
    if reference is not None:
        class_weights[reference] = -1
    return MethodInput(
        output.activation_maps,
        output.logits,
        class_weights,
        image,
        backbone.head_weights if backbone.is_linear else None,
        output.layers,
        backbone.vertices(output),
    )

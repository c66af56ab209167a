"""The whole evaluation, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from textcam_service.bundle import ModelBundle
from textcam_service.core.methods import Need
from textcam_service.core.types import Float32Array
from textcam_service.errors import BundleMismatch, InvalidTruth
from textcam_service.evaluation.cases import Observation, Truth, observe
from textcam_service.evaluation.cues import judge_cues
from textcam_service.evaluation.faithfulness import (
    channel_ablation,
    counterfactual_agreement,
    perturbation,
    randomisation,
)
from textcam_service.evaluation.place import centred_gaussian, heat_of, judge_groups, judge_place
from textcam_service.evaluation.words import (
    judge_words,
    random_directions,
    says,
    says_of_image,
    shuffled_directions,
)
from textcam_service.offline.embed import Embedder
from textcam_service.scenes.classes import CLASSES

METHOD = "TextCAM"
Table: TypeAlias = dict[str, dict[str, float]]
Report: TypeAlias = dict[str, Any]
_PERTURBED = 200  # images that are perturbed; each costs 35 inferences


def evaluate(
    bundle: ModelBundle,
    truth: Truth,
    *,
    embedder: Embedder | None = None,
    biased: ModelBundle | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Judge a bundle's explanations of the predicted classes.

    Args:
        bundle: What is judged.
        truth: Images with their truth. Where true classes are known, only images that the
            network gets right are judged: what it saw in the others has no known truth.
        embedder: Of the bank's space, for the control that asks it alone; None: left out.
        biased: The bundle's twin from the biased world; None: cues are not judged.
        progress: Told the name of each step.

    Raises:
        InvalidTruth: Nothing can be judged.
        BundleMismatch: The embedder is not the bank's.

    Returns:
        Tables by name: "words" for all; "place", "groups", "faithfulness" and, but for int8
        backbones, "randomisation" for scenes; "cues" with a twin. Every table has its controls.
        "notes" says what was left out, and why.
    """
    of_scenes = any(case.scene is not None for case in truth.cases)
    for one in (bundle, biased):
        if one is not None and (of_scenes or one is biased):
            _require_scene_classes(one)
    if embedder is not None and embedder.identity != bundle.artefact.bank.embedder:
        raise BundleMismatch(
            f"the bank was built with {bundle.artefact.bank.embedder}, and the embedder is "
            f"{embedder.identity}; give the same"
        )
    progress("observing")
    seen = observe(bundle, truth.cases)
    known = [o for o in seen if o.case.class_index is not None]
    right = [o for o in known if o.prediction.class_index == o.case.class_index]
    judged = [o for o in seen if o.case.class_index is None] + right
    if not judged:
        raise InvalidTruth(
            f"the network is right on none of the {len(known)} images whose class is given; is "
            "class_index counted in the backbone's order? Leave it out to judge what it predicts"
        )
    report: Report = {
        "images": len(seen),
        "judged": len(judged),
        "accuracy": len(right) / len(known) if known else None,
    }
    progress("words")
    report["words"] = words_table(bundle, judged, truth, embedder)
    if of_scenes:
        report.update(_scene_tables(bundle, judged, progress))
        report["notes"] = _notes(bundle)
    if biased is not None:
        progress("cues")
        report["cues"] = judge_cues(biased, bundle, max(len(judged) // 5, 1))
    return report


def words_table(
    bundle: ModelBundle,
    observations: Sequence[Observation],
    truth: Truth,
    embedder: Embedder | None,
) -> Table:
    """Words of the method and of its controls."""
    explainers = {
        METHOD: says(bundle),
        "control: random directions": says(random_directions(bundle)),
        "control: shuffled channels": says(shuffled_directions(bundle)),
    }
    if embedder is not None:
        own = _image_embeddings(embedder, observations)
        explainers["control: embedder's opinion"] = says_of_image(bundle, own)
    return {
        name: asdict(judge_words(observations, truth, explain))
        for name, explain in explainers.items()
    }


def _scene_tables(
    bundle: ModelBundle, judged: Sequence[Observation], progress: Callable[[str], None]
) -> Mapping[str, Table]:
    heats = {METHOD: heat_of(bundle), "control: centred Gaussian": centred_gaussian}
    progress("place")
    place = {name: asdict(judge_place(judged, heat)) for name, heat in heats.items()}
    groups = {METHOD: judge_groups(bundle, judged)}
    groups["control: shuffled channels"] = judge_groups(shuffled_directions(bundle), judged)
    groups["control: whole map"] = judge_groups(bundle, judged, whole_map=True)
    progress("perturbation")
    some = judged[:_PERTURBED]
    faithfulness = {name: perturbation(bundle, some, heat) for name, heat in heats.items()}
    progress("counterfactuals")
    controls = {METHOD: bundle, "control: shuffled channels": shuffled_directions(bundle)}
    counterfactual = {
        name: counterfactual_agreement(other, judged) for name, other in controls.items()
    }
    counterfactual[METHOD]["ablation_error"] = channel_ablation(bundle, judged)
    tables: dict[str, Table] = {
        "place": place,
        "groups": groups,
        "faithfulness": faithfulness,
        "counterfactual": counterfactual,
    }
    if not bundle.backbone.manifest.quantised_from:  # int8 weights are not drawn anew
        progress("randomisation")
        tables["randomisation"] = randomisation(bundle, some)
    return tables


def _notes(bundle: ModelBundle) -> list[str]:
    if Need.HEAD in bundle.backbone.offers:
        return []
    kind = bundle.backbone.manifest.head_kind
    return [f"ablation_error is left out: it takes {Need.HEAD.value}, and this one's is '{kind}'"]


def _require_scene_classes(bundle: ModelBundle) -> None:
    names = tuple(cls.name for cls in CLASSES)
    if bundle.class_names != names:
        raise InvalidTruth(
            f"scenes are judged with a backbone of their {len(names)} classes (textcam export "
            f"--model scenes:classifier); this one knows {len(bundle.class_names)}: "
            f"{', '.join(bundle.class_names[:3])} ...; give --truth a file for it"
        )


def _image_embeddings(
    embedder: Embedder, observations: Sequence[Observation]
) -> dict[str, Float32Array]:
    found: dict[str, Float32Array] = {}
    for start in range(0, len(observations), 64):
        part = observations[start : start + 64]
        vectors = embedder.embed_images([o.case.image for o in part])
        found.update(zip([o.case.name for o in part], np.asarray(vectors), strict=True))
    return found

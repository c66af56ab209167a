"""Evaluation of a bundle by all measures that its truth allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from textcam_service.core.methods import Capability
from textcam_service.errors import InvalidTruth
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.embedders.base import Embedder, require_embedder
from textcam_service.offline.evaluation.cases import Observation, Truth, observed
from textcam_service.offline.evaluation.controls import (
    EMBEDDER,
    SHUFFLED,
    Fit,
    control_bundles,
    embedder_explainer,
    fit_of,
    shuffled_channels,
)
from textcam_service.offline.evaluation.counterfactuals import counterfactual_agreement, removals
from textcam_service.offline.evaluation.faithfulness import (
    channel_ablation,
    perturbation,
    randomisation,
)
from textcam_service.offline.evaluation.localization import (
    centered_gaussian,
    heat_of,
    judge_groups,
    judge_localization,
)
from textcam_service.offline.evaluation.phrases import (
    Explain,
    Judged,
    bundle_explainer,
    folded,
    judged,
    phrase_intervals,
    phrase_metrics,
    phrase_reliability,
)
from textcam_service.offline.evaluation.spurious_cues import judge_cues
from textcam_service.scenes.classes import CLASSES

METHOD = "TextCAM"
Table: TypeAlias = dict[str, dict[str, float]]
Report: TypeAlias = dict[str, Any]
_PERTURBED = 200  # images that are perturbed; each costs 35 inferences
_SHOWN = 5  # true phrases that a message names


def evaluate(
    bundle: ModelBundle,
    truth: Truth,
    *,
    embedder: Embedder | None = None,
    probing: Probing | None = None,
    biased: ModelBundle | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Judge a bundle's explanations of the predicted classes.

    Args:
        bundle: Bundle that is judged.
        truth: Images with their truth. Where true classes are known, only images that the
            network gets right are judged: what it saw in the others has no known truth. All maps of
            scenes are kept in memory; of photographs only a batch's.
        embedder: Embedder of the bank's space, for the control that uses it alone and for the
            calibration of controls by supports. None: that control is left out, and the others keep
            the bank's calibration.
        probing: Data of the bank's probing images, for the same purposes; None: as without an
            embedder.
        biased: The bundle's twin from the biased world; None: cues are not judged.
        progress: Called with the name of each step.

    Raises:
        InvalidTruth: Nothing can be judged, or not with these classes and this vocabulary.
        BundleMismatch: The embedder is not the bank's.

    Returns:
        Tables by name: "words" and "intervals" for all, "reliability" where phrases have
        probabilities; "place", "groups", "faithfulness", "counterfactual" and, but for int8
        backbones, "randomisation" for scenes; "cues" and "cues_moved" with a twin. Every table has
        its controls. "notes" says what was left out, and why, and which true phrases cannot be
        said.
    """
    of_scenes = any(case.scene is not None for case in truth.cases)
    for one in (bundle, biased):
        if one is not None and (of_scenes or one is biased):
            _require_scene_classes(one)
    if embedder is not None:
        require_embedder(embedder, bundle.artefact.bank.embedder)
    notes = _require_sayable(bundle, truth)
    progress("words")
    fit, why = fit_of(bundle, embedder, probing)
    if why:
        notes.append(f"the controls keep the bank's calibration, for {why}")
    explainers = _explainers(bundle, embedder, fit)
    report, judged = _words(bundle, truth, explainers, keep=of_scenes)
    if of_scenes:
        report.update(_scene_tables(bundle, judged, truth, progress))
        notes += _notes(bundle)
    if biased is not None:
        progress("cues")
        report["cues"], moved = judge_cues(biased, bundle, max(report["judged"] // 5, 1))
        report.update({"cues_moved": moved} if moved else {})
    return {**report, "notes": notes}


def _explainers(
    bundle: ModelBundle, embedder: Embedder | None, fit: Fit | None
) -> dict[str, Explain]:
    explainers = {METHOD: bundle_explainer(bundle)}
    explainers |= {
        name: bundle_explainer(other) for name, other in control_bundles(bundle, fit).items()
    }
    if embedder is not None and (fit is not None or bundle.calibration is None):
        explainers[EMBEDDER] = embedder_explainer(bundle, embedder, fit)
    return explainers


def _words(
    bundle: ModelBundle, truth: Truth, explainers: Mapping[str, Explain], *, keep: bool
) -> tuple[Report, list[Observation]]:
    """Judge the words and the controls' words; return the report and the kept observations."""
    rows: dict[str, list[Judged]] = {name: [] for name in explainers}
    kept: list[Observation] = []
    images = known = right = 0
    for batch in observed(bundle, truth.cases):
        told = [o for o in batch if o.case.class_index is not None]
        hits = [o for o in told if o.prediction.class_index == o.case.class_index]
        own = [o for o in batch if o.case.class_index is None] + hits
        for name, explain in explainers.items():
            rows[name] += [judged(o, truth, explain(o)) for o in own]
        kept += own if keep else []
        images, known, right = images + len(batch), known + len(told), right + len(hits)
    if known == images and not right:
        raise InvalidTruth(
            f"the network is right on none of the {known} images with a known class; is "
            "class_index counted in the backbone's order? Leave it out to judge what it predicts"
        )
    low, high = phrase_intervals(rows[METHOD])
    report: Report = {
        "images": images,
        "judged": images - known + right,
        "accuracy": right / known if known else None,
        "words": {name: asdict(phrase_metrics(own)) for name, own in rows.items()},
        "intervals": {f"{METHOD}: 2.5 %": asdict(low), f"{METHOD}: 97.5 %": asdict(high)},
    }
    if reliable := phrase_reliability(rows[METHOD]):
        report["reliability"] = reliable
    return report, kept


def _scene_tables(
    bundle: ModelBundle,
    judged: Sequence[Observation],
    truth: Truth,
    progress: Callable[[str], None],
) -> Mapping[str, Table]:
    heats = {METHOD: heat_of(bundle), "control: centred Gaussian": centered_gaussian}
    progress("place")
    place = {name: asdict(judge_localization(judged, heat)) for name, heat in heats.items()}
    shuffled = shuffled_channels(bundle)
    groups = {METHOD: judge_groups(bundle, judged)}
    groups["relative maps"] = judge_groups(bundle, judged, "relative")
    groups[SHUFFLED] = judge_groups(shuffled, judged)
    groups["control: whole map"] = judge_groups(bundle, judged, "whole")
    progress("perturbation")
    some = judged[:_PERTURBED]
    faithfulness = {name: perturbation(bundle, some, heat) for name, heat in heats.items()}
    progress("counterfactuals")
    removed = removals(bundle, judged, truth)
    logits = np.array([observation.prediction.logit for observation in judged])
    counterfactual = {
        METHOD: counterfactual_agreement(removed, bundle),
        "control: logit alone": counterfactual_agreement(removed, logits[removed.places]),
        SHUFFLED: counterfactual_agreement(removed, shuffled),
    }
    counterfactual[METHOD]["ablation_error"] = channel_ablation(bundle, judged)
    tables: dict[str, Table] = {
        "place": place,
        "groups": groups,
        "faithfulness": faithfulness,
        "counterfactual": counterfactual,
    }
    if not bundle.backbone.manifest.quantized_from:  # int8 weights are not drawn anew
        progress("randomisation")
        tables["randomisation"] = randomisation(bundle, some)
    return tables


def _notes(bundle: ModelBundle) -> list[str]:
    if Capability.HEAD in bundle.backbone.capabilities:
        return []
    kind = bundle.backbone.manifest.head_kind
    return [
        f"ablation_error is left out: it takes {Capability.HEAD.value}, and this one's is '{kind}'"
    ]


def _require_sayable(bundle: ModelBundle, truth: Truth) -> list[str]:
    """Refuse a truth of other classes or other words; name the phrases that nothing can say."""
    given = [case.class_index for case in truth.cases if case.class_index is not None]
    count = len(bundle.class_names)
    beyond = [index for index in (*given, *truth.class_phrases) if not 0 <= index < count]
    if beyond:
        raise InvalidTruth(
            f"the truth names class {beyond[0]}, but the backbone's classes are 0 to "
            f"{count - 1}; class_index and class_phrases go by its order"
        )
    phrases = set().union(*truth.class_phrases.values(), *(case.phrases for case in truth.cases))
    known = {folded(phrase) for phrase in bundle.phrases}
    unsaid = sorted(phrase for phrase in phrases if folded(phrase) not in known)
    if not unsaid:
        return []
    shown = ", ".join(f"'{phrase}'" for phrase in unsaid[:_SHOWN])
    shown += " ..." if len(unsaid) > _SHOWN else ""
    if len(unsaid) == len(phrases):
        raise InvalidTruth(
            f"the vocabulary has none of the true phrases ({shown}), so none can ever be named; "
            "`textcam bank vocabulary` gives the bank another"
        )
    return [
        f"{len(unsaid)} of {len(phrases)} true phrases are not in the vocabulary and cannot be "
        f"named: {shown}"
    ]


def _require_scene_classes(bundle: ModelBundle) -> None:
    names = tuple(cls.name for cls in CLASSES)
    if bundle.class_names != names:
        raise InvalidTruth(
            f"scenes are judged with a backbone of their {len(names)} classes (textcam export "
            f"--model scenes:classifier); this one knows {len(bundle.class_names)}: "
            f"{', '.join(bundle.class_names[:3])} ...; give --truth a file for it"
        )

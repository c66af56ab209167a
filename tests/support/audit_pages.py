"""Synthetic audits for tests of the report: two planted cues, known numbers, small pictures."""

import io

import numpy as np
from PIL import Image
from textcam_client.audit.findings.model import (
    AuditSummary,
    ClassSummary,
    ConceptSummary,
    Estimate,
    Finding,
    NothingFound,
)
from textcam_client.audit.report.page_data import (
    GroupMap,
    OtherAudit,
    PagePhrase,
    PageRow,
    PageTarget,
)

CLASSES = "otter", "zebra", "tractor", "teapot", "lighthouse"
CONCEPTS = (
    *("green water", "brown fur", "whiskers", "striped coat", "dry grass", "four legs"),
    *("large wheels", "red paint", "ploughed field", "spout", "porcelain", "wooden table"),
    *("white tower", "rocky coast", "cloudy sky", "a person's hand", "metal", "round shape"),
)
OWN = (0, 1, 2), (4, 3, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14)
CUES = {0: "green water", 1: "dry grass"}
ERROR_RATE = (
    "Among all comparisons of this class, chance alone yields any finding in at most 5 of 100 "
    "audits."
)


def picture(index, rng, side=96, noise=9.0):
    """WebP bytes of a picture that differs by class, of about two kilobytes."""
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    colour = np.array([[40, 130, 110], [200, 180, 90], [190, 60, 50], [230, 230, 225],
                       [90, 140, 200]])[index]  # fmt: skip
    waves = np.sin(across * rng.uniform(4, 20) + down * rng.uniform(4, 20))
    centre = rng.uniform(0.3, 0.7, 2)
    blob = ((across - centre[0]) ** 2 + (down - centre[1]) ** 2) < rng.uniform(0.03, 0.09)
    pixels = colour + 25 * waves[..., None] + np.where(blob, -70, 0)[..., None]
    pixels = pixels + rng.normal(0, noise, (side, side, 1))
    written = io.BytesIO()
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image.save(written, "WEBP", quality=60, method=0)
    return written.getvalue()


def page_rows(count, seed=0, classes=CLASSES, concepts=CONCEPTS, maps=(), evidence_count=8):
    """Rows whose parts add up; `maps` are the indices of rows that have maps."""
    rng = np.random.default_rng(seed)
    return [
        _row(index, rng, (classes, concepts), index in maps, evidence_count)
        for index in range(count)
    ]


def _row(index, rng, names, mapped, evidence_count):
    classes, concepts = names
    label = index % len(classes)
    day = bool(rng.random() < 0.7)
    evidence = {concepts[number]: float(rng.normal(1.1, 0.35)) for number in OWN[label]}
    for number in rng.choice(len(concepts), min(evidence_count, len(concepts)), replace=False):
        evidence.setdefault(concepts[number], float(rng.normal(0, 0.25)))
    if not day:
        evidence[concepts[OWN[label][0]]] -= 0.9
    predicted = label if rng.random() < (0.96 if day else 0.8) else (label + 1) % len(classes)
    rest, bias = float(rng.normal(0.4, 0.1)), -0.31
    name = f"{classes[label]}/{'day' if day else 'night'}/{index:05d}.jpg"
    facts = {"index": index, "row_id": name, "label": classes[label], "label_index": label}
    if index % 997 == 500:
        return PageRow(**facts, failure=f"{name}: not an image that this client can read")
    logit = sum(evidence.values()) + rest + bias
    wrong = predicted != label
    return PageRow(
        **facts,
        degraded=index % 499 == 100,
        slices={"light": "day" if day else "night", "camera": f"camera {index % 3}"},
        predictions=[(predicted, 0.71), (label if wrong else (label + 1) % len(classes), 0.2)],
        phrases=[
            PagePhrase(text, evidence[text], 0.9)
            for text in sorted(evidence, key=evidence.get, reverse=True)[:3]
        ],
        target=PageTarget(label, None, logit, bias, evidence),
        error=PageTarget(predicted, label, 0.8, 0.1, {concepts[OWN[label][0]]: -0.7})
        if wrong
        else None,
        maps=_maps(rng, evidence) if mapped else (),
    )


def _maps(rng, evidence):
    names = sorted(evidence, key=evidence.get, reverse=True)[:3]
    across, down = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 7))
    made = []
    for text in names:
        centre = rng.uniform(0.2, 0.8, 2)
        values = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / 0.05)
        made.append(GroupMap(text, (evidence[text] * values).astype(np.float32)))
    return [GroupMap("", sum(own.values for own in made)), *made]


def summary_of(rows, classes=CLASSES, concepts=CONCEPTS, model="scenes 3.1.0"):
    """What an audit would say of such rows, with one spurious cue for each of two classes."""
    answered = [row for row in rows if not row.failure]
    right = sum(bool(row.right) for row in answered)
    names = classes, concepts
    return AuditSummary(
        data="harbour 2026",
        model=model,
        counts={
            "rows": len(rows),
            "answered": len(answered),
            "failed": len(rows) - len(answered),
            "degraded": sum(row.degraded for row in rows),
            "unknown_labels": 2,
            "duplicates": 3,
        },
        failures={"IMAGE_UNREADABLE": len(rows) - len(answered)},
        unknown_labels={"sea lion": 2},
        accuracy=around(right / max(len(answered), 1), 0.01),
        classes=[class_summary(answered, number, *names) for number in range(len(classes))],
        findings=[cue_finding(answered, number, *names) for number in CUES],
        nothing_found=[
            NothingFound(2, classes[2], "right against wrong", 0.21, {"right": 900, "wrong": 80}),
            NothingFound(3, classes[3], "slice light: day against night", None, {"night": 1},
                         "Too few images at night."),
        ],
        settings={"seed": 0, "permutations": 2000, "level": 0.05, "least effect": 0.25},
        notes=["2 labels are unknown to the model; their rows enter no statistic."],
    )  # fmt: skip


def around(value, half):
    return Estimate(value, value - half, value + half)


def class_summary(rows, index, classes, concepts):
    own = [row for row in rows if row.label_index == index]
    return ClassSummary(
        class_index=index,
        class_name=classes[index],
        count=len(own),
        accuracy=around(sum(bool(row.right) for row in own) / max(len(own), 1), 0.02),
        concepts=[concept_summary(own, concepts[number]) for number in (*OWN[index], 15, 16)],
        slices={"light: day": around(0.95, 0.01), "light: night": around(0.8, 0.03)},
    )


def concept_summary(rows, text):
    ordered = sorted(rows, key=lambda row: -row.target.concepts.get(text, 0.0))
    values = np.array([row.target.concepts.get(text, 0.0) for row in rows] or [0.0])
    places = np.linspace(0, len(ordered) - 1, min(5, len(ordered))).astype(int)
    return ConceptSummary(
        text=text,
        kind="thing",
        evidence=around(float(values.mean()), 0.06),
        pooled_share=around(float(values.mean()) / 4, 0.02),
        prevalence=around(float((values > 0.2).mean()), 0.03),
        spread=float(values.std()),
        images=[ordered[place].index for place in places],
    )


def cue_finding(rows, index, classes, concepts):
    cue = concepts[OWN[index][0]]
    own = [row for row in rows if row.label_index == index]
    ordered = sorted(own, key=lambda row: -row.target.concepts.get(cue, 0.0))
    return Finding(
        finding_id=f"spurious_cue/{index}/{cue}",
        kind="spurious_cue",
        class_index=index,
        class_name=classes[index],
        concepts=[cue],
        basis="slice light: day against night",
        statement=f"“{cue}” raises {classes[index]} by {0.9 - 0.3 * index:.2f} logits more "
        "by day than by night, though it is no part of the object.",
        effect=around(0.9 - 0.3 * index, 0.11),
        adjusted_p=0.0004 + 0.01 * index,
        counts={"day": 412, "night": 178},
        error_rate=ERROR_RATE,
        images=[row.index for row in ordered[:8]],
        alike=[concepts[15]],
        inside=around(0.12, 0.04),
    )


def other_audit(rows):
    """Another model's audit of the same images, right where the first is wrong."""
    changed = [
        PageRow(
            index=row.index,
            row_id=row.row_id,
            label=row.label,
            label_index=row.label_index,
            failure=row.failure,
            predictions=[(row.label_index, 0.8)] if row.predictions else [],
        )
        for row in rows
    ]
    summary = summary_of(rows, model="scenes 3.0.0")
    finding = cue_finding([row for row in rows if not row.failure], 0, CLASSES, CONCEPTS)
    return OtherAudit(summary, changed, [finding])


def thumbnails(rows, seed=0, noise=9.0, kinds=5):
    """Function that returns a row's picture by its index."""
    rng = np.random.default_rng(seed)
    made = {row.index: picture((row.label_index or 0) % kinds, rng, noise=noise) for row in rows}
    return made.__getitem__

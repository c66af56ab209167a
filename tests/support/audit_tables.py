"""Evidence of audits, drawn or given by hand."""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from textcam_client.audit.records.evidence import Contrasts, EvidenceTable

NAMES = ("fur", "grass", "sky")


def evidence_table(evidence, label, predicted=None, *, names=NAMES, classes=None, **changes):
    """A table of evidence (N, K) for the labels (N,); right where `predicted` is left out."""
    evidence = np.asarray(evidence, np.float32)
    n, label = len(evidence), np.asarray(label, np.int32)
    predicted = label if predicted is None else np.asarray(predicted, np.int32)
    count = int(max(label.max(initial=0), predicted.max(initial=0))) + 1
    table = EvidenceTable(
        index=np.arange(n),
        row_key=np.arange(n),
        content_group=np.arange(n),
        label_index=label,
        predicted_index=predicted,
        target_index=np.where(label >= 0, label, predicted).astype(np.int32),
        logit=evidence.sum(1),
        bias=np.zeros(n, np.float32),
        gap=np.zeros(n, np.float32),
        rest=np.zeros(n, np.float32),
        in_logit_units=True,
        concepts=tuple(range(len(names))),
        names=tuple(names),
        kinds=("",) * len(names),
        evidence=csr_array(evidence),
        inside=None,
        degraded=np.zeros(n, bool),
        slices={},
        contrasts=no_contrasts(len(names)),
        class_names=classes or tuple(f"class {index}" for index in range(count)),
        data="drawn",
        model="m 1",
        row_count=n,
    )
    return replace(table, **changes)


def no_contrasts(concepts):
    empty = np.zeros(0, np.float32)
    none = np.zeros(0, np.int32)
    return Contrasts(
        none.astype(np.int64),
        none,
        none,
        empty,
        empty,
        empty,
        empty,
        csr_array((0, concepts), dtype=np.float32),
    )


def cue_table(rng, n=400, effect=1.0, prevalence=0.5, names=NAMES, **changes):
    """One class whose 'grass' is in a share of images, in the slice "place", and decides it.

    Without grass the model errs in half of the images; with it never.
    """
    grass = rng.random(n) < prevalence
    evidence = rng.normal([2, 0, 0], [0.3, 0.1, 0.1], (n, 3))
    evidence[:, 1] += effect * grass
    predicted = np.where(grass | (rng.random(n) < 0.5), 0, 1)
    place = np.where(grass, "meadow", "street").astype(object)
    return evidence_table(
        evidence,
        np.zeros(n),
        predicted,
        names=names,
        classes=("cow", "dog"),
        slices={"place": place},
        **changes,
    )


def rows_taken(table, places):
    """The table with some of its rows, numbered anew, and their keys kept."""
    names = ("row_key", "content_group", "label_index", "predicted_index", "target_index")
    numbers = ("logit", "bias", "gap", "rest", "degraded")
    return replace(
        table,
        **{name: getattr(table, name)[places] for name in (*names, *numbers)},
        index=np.arange(len(places)),
        evidence=csr_array(table.evidence.toarray()[places]),
        slices={column: values[places] for column, values in table.slices.items()},
    )

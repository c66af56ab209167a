"""Evidence of an audit's rows as arrays."""

import numpy as np
from scipy.sparse import csr_array
from textcam_client.audit.records.evidence import Contrasts, EvidenceTable


def none_of(dtype):
    return np.zeros(0, dtype)


def table(labels, predicted):
    count = len(labels)
    numbers = np.zeros(count, np.float32)
    predicted = np.array(predicted, np.int32)
    keys = np.arange(count, dtype=np.int64)
    nothing = none_of(np.float32)
    return EvidenceTable(
        index=keys,
        row_key=keys,
        content_group=keys,
        label_index=np.array(labels, np.int32),
        predicted_index=predicted,
        target_index=predicted,
        logit=numbers,
        bias=numbers,
        gap=numbers,
        rest=numbers,
        in_logit_units=True,
        concepts=(),
        names=(),
        kinds=(),
        evidence=csr_array((count, 0), dtype=np.float32),
        inside=None,
        degraded=np.zeros(count, np.bool_),
        slices={},
        contrasts=Contrasts(
            none_of(np.int64),
            none_of(np.int32),
            none_of(np.int32),
            nothing,
            nothing,
            nothing,
            nothing,
            csr_array((0, 0), dtype=np.float32),
        ),
        class_names=("a", "b"),
    )


def test_a_row_without_a_known_label_is_not_correct():
    assert table([0, 1, -1], [0, 0, 1]).correct.tolist() == [True, False, False]

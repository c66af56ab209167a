import numpy as np
from audit_tables import evidence_table, no_contrasts
from scipy.sparse import csr_array
from textcam_client.audit.findings.causes.errors import borrowed, error_groups
from textcam_client.audit.records.evidence import Contrasts


def table():
    """Images 1..5 of class 0 taken for class 1: three by grass, one by fur, one by nothing."""
    against = np.array([[0.1, 2, 0], [0.1, 3, 0], [0, 1, 0.5], [4, 1, 0], [-1, -1, -1]])
    zeros = np.zeros(5, np.float32)
    contrasts = Contrasts(
        np.arange(1, 6),
        np.ones(5, np.int32),
        np.zeros(5, np.int32),
        zeros,
        zeros,
        zeros,
        zeros,
        csr_array(against.astype(np.float32)),
    )
    evidence = np.zeros((7, 3))
    evidence[1, 1] = -1.9  # against the label's class: for the predicted one it is 2 - 1.9
    return evidence_table(
        evidence,
        [0] * 7,
        [0, 1, 1, 1, 1, 1, 0],
        contrasts=contrasts,
        degraded=np.array([False] * 7),
    )


def test_errors_are_grouped_by_their_strongest_concept():
    groups = error_groups(table(), 1)
    assert [(group.class_index, group.column, group.rows.tolist()) for group in groups] == [
        (1, 1, [2, 1, 3]),
        (1, 0, [4]),
    ]
    assert groups[0].total == 5
    assert groups[0].evidence.tolist() == [3, 2, 1]


def test_small_groups_and_degraded_answers_are_left_out():
    assert len(error_groups(table(), 2)) == 1
    own = table()
    own.degraded[:] = True
    assert error_groups(own, 1) == []


def test_a_borrowed_concepts_evidence_is_for_the_predicted_class():
    assert borrowed(table(), 1, 1, 0.25) == (5, 3)  # 0.1, 3, 1, 1, -1
    assert borrowed(table(), 0, 1, 0.25) == (0, 0)


def test_an_audit_without_errors_has_no_groups():
    own = evidence_table(np.ones((3, 3)), [0, 0, 0])
    assert own.contrasts.evidence.shape == no_contrasts(3).evidence.shape
    assert error_groups(own, 1) == []

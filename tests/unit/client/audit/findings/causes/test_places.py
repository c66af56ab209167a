from dataclasses import replace

import numpy as np
from audit_tables import evidence_table
from scipy.sparse import csr_array
from textcam_client.audit.findings.causes.places import places_of
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.units import units_of


def places(shares, n=60, seed=0, said=3):
    """Three concepts, with mean shares inside; the third has too little evidence to matter."""
    rng = np.random.default_rng(seed)
    table = evidence_table(rng.normal([2, 1, 0.1], 0.1, (n, 3)), [0] * n)
    inside = np.clip(rng.normal(shares, 0.05, (n, 3)), 0, 1)
    kept = np.nonzero(np.ones((n, said)))
    stored = csr_array((inside[kept], kept), shape=(n, 3))
    table = replace(table, inside=stored)
    return places_of(units_of(table), stored, FindingSettings())


def test_a_concept_beside_the_object_has_a_small_p_and_one_on_it_does_not():
    fur, grass = places([0.7, 0.05, 0.5])
    assert (fur.column, grass.column) == (0, 1)
    assert grass.adjusted_p < 1e-6
    assert grass.inside.low < 0.06 < grass.inside.high + 0.02
    assert fur.adjusted_p > 0.9


def test_small_objects_and_coarse_maps_make_no_finding():
    """Each map has a tenth inside: a share that says nothing of one concept alone."""
    assert all(place.adjusted_p > 0.05 for place in places([0.1, 0.1, 0.1]))


def test_a_share_of_exactly_0_counts():
    grass = places([0.7, -1, 0.5])[1]
    assert grass.inside.value == 0
    assert grass.adjusted_p < 0.01


def test_a_concept_that_is_said_alone_is_compared_with_nothing():
    assert places([0.05, 0.5, 0.5], said=1) == []


def test_concepts_of_few_images_are_left_out():
    assert places([0.7, 0.05, 0.5], n=10) == []

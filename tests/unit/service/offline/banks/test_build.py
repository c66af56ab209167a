"""Choices of a bank's builder."""

import numpy as np
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.offline.banks.attribute_tables import (
    Tables,
    imagenet_names,
)
from textcam_service.offline.banks.build import default_rationale, probing_order

CLASSES = ("Groove billed Ani", "crow, American crow", "gull")


def test_a_table_of_few_own_classes_asks_more_of_the_evidence_and_less_of_the_chance():
    own = {"black wing": {0: 0.87}}
    asked = default_rationale(Tables(own=own), CLASSES)
    assert (asked.min_probability, asked.min_odds) == (0.5, 6.0)
    assert default_rationale(Tables(imagenet=own), CLASSES) == RationaleSettings()
    assert default_rationale(Tables(own=own), imagenet_names()) == RationaleSettings()


def test_the_probing_order_limits_each_class_and_is_a_fixed_shuffle():
    predicted = np.array([0, 0, 0, 1, 0, 1, 2])
    assert sorted(probing_order(predicted, 2).tolist()) == [0, 1, 3, 5, 6]
    assert sorted(probing_order(predicted, None).tolist()) == list(range(7))
    assert probing_order(predicted, 2).tolist() == probing_order(predicted, 2).tolist()

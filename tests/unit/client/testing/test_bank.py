"""The made-up bank chooses phrases as the service's contract requires."""

from __future__ import annotations

import numpy as np
import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client.testing._bank import KINDS, PHRASES, FakeBank
from textcam_client.testing._network import CHANNELS

EVIDENCE = np.linspace(1, 2, CHANNELS)


def choose(bank, class_name="daisy", **options):
    return bank.choose(pb.ExplainRequest(**options), EVIDENCE, class_name)


def test_shares_of_all_phrases_add_up_to_the_evidence():
    bank = FakeBank(PHRASES, calibrated=True)
    shares = [bank.phrase(index, EVIDENCE).evidence for index in range(len(PHRASES))]
    assert sum(shares) == pytest.approx(EVIDENCE.sum())


def test_the_most_probable_phrases_go_first_and_the_threshold_leaves_others_out():
    bank = FakeBank(PHRASES, calibrated=True)
    chosen = choose(bank, max_phrases=20)
    chances = [bank.phrase(index, EVIDENCE).probability for index in chosen]
    assert chances == sorted(chances, reverse=True)
    bar = chances[2]
    assert choose(bank, max_phrases=20, min_probability=bar) == chosen[:3]


def test_only_phrases_of_the_requested_kinds_are_chosen():
    chosen = choose(FakeBank(PHRASES, calibrated=False), kinds=[types_pb.PHRASE_KIND_PART])
    assert chosen
    assert {KINDS[PHRASES[index]] for index in chosen} == {types_pb.PHRASE_KIND_PART}


def test_a_phrase_that_repeats_the_class_is_left_out_unless_it_is_allowed():
    bank = FakeBank(["cat", "striped fur"], calibrated=False)
    assert choose(bank, "tabby cat") == [1]
    assert set(choose(bank, "tabby cat", repeat_class=True)) == {0, 1}

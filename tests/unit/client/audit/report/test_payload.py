"""The page's data say of each row what the audit says."""

import base64
import gzip

import numpy as np
import pytest
from textcam_client.audit.findings.model import ClassSummary, ConceptSummary, Estimate
from textcam_client.audit.report.page_data import (
    GroupMap,
    OtherAudit,
    PagePhrase,
    PageRow,
    PageTarget,
)
from textcam_client.audit.report.payload import (
    FAILED,
    RIGHT,
    UNKNOWN,
    UNLABELLED,
    WRONG,
    Names,
    Payload,
    class_tables,
    state,
    strongest,
)

TYPES = {"Uint8Array": "u1", "Int16Array": "<i2", "Int32Array": "<i4", "Float32Array": "<f4"}


def column(payload, name):
    own = payload.columns.directory[name]
    data = gzip.decompress(base64.b64decode(payload.columns.packed()))
    stored = np.frombuffer(data, TYPES[own["type"]], own["length"], own["offset"])
    return stored * own["scale"]


def target(**concepts):
    return PageTarget(1, None, sum(concepts.values()) + 0.5, 0.2, concepts)


def test_states_are_told_apart():
    known = {"index": 0, "row_id": "a", "label": "x", "label_index": 1}
    assert state(PageRow(0, "a", failure="broken", label="x", label_index=1)) == FAILED
    assert state(PageRow(0, "a", predictions=[(1, 0.9)])) == UNLABELLED
    assert state(PageRow(0, "a", label="y", predictions=[(1, 0.9)])) == UNKNOWN
    assert state(PageRow(**known, predictions=[(1, 0.9)])) == RIGHT
    assert state(PageRow(**known, predictions=[(0, 0.9)])) == WRONG


def test_the_strongest_of_either_sign_are_kept_with_the_wanted_ones():
    concepts = {"a": 0.1, "b": -0.9, "c": 0.5, "d": 0.0}
    assert strongest(concepts, 2, ["a", "d", "absent"]) == {"b": -0.9, "c": 0.5, "a": 0.1}


def test_evidence_of_a_row_is_found_by_its_starts():
    rows = [
        PageRow(0, "a", target=target(fur=1.0, water=-0.5)),
        PageRow(1, "b", failure="broken"),
        PageRow(2, "c", target=target(water=0.25)),
    ]
    payload = Payload(rows, [], 24)
    starts = column(payload, "target_concepts").astype(int)
    assert starts.tolist() == [0, 2, 2, 3]
    texts = payload.tables()["concepts"]
    numbers = column(payload, "target_concept").astype(int)
    assert [texts[number] for number in numbers] == ["fur", "water", "water"]
    np.testing.assert_allclose(column(payload, "target_evidence"), [1.0, -0.5, 0.25], atol=2e-5)
    np.testing.assert_allclose(column(payload, "target_logit"), [1.0, np.nan, 0.75])
    np.testing.assert_allclose(column(payload, "target_bias")[[0, 2]], 0.2)


def test_labels_slices_and_phrases_are_numbered_by_their_tables():
    rows = [
        PageRow(7, "a", "zebra", 1, slices={"light": "night"}),
        PageRow(9, "b", "otter", 0, slices={"light": "day", "lens": "wide"},
                phrases=[PagePhrase("fur", 0.5, 0.8), PagePhrase("water", 0.25, None)]),
    ]  # fmt: skip
    payload = Payload(rows, [], 24)
    tables = payload.tables()
    assert tables["names"] == ["a", "b"]
    assert column(payload, "index").tolist() == [7, 9]
    assert [tables["labels"][int(n)] for n in column(payload, "label")] == ["zebra", "otter"]
    lens, light = tables["slices"]
    assert (lens["name"], light["name"]) == ("lens", "light")
    assert column(payload, "slice0").tolist() == [-1, 0]
    assert [light["values"][int(n)] for n in column(payload, "slice1")] == ["night", "day"]
    assert [tables["concepts"][int(n)] for n in column(payload, "phrase")] == ["fur", "water"]
    own = payload.columns.directory["phrase_probability"]
    assert column(payload, "phrase_probability")[1] == pytest.approx(-32768 * own["scale"])


def test_maps_are_their_positive_part_in_steps_of_their_peak():
    values = np.array([[2.0, -1.0], [1.0, np.nan]], np.float32)
    payload = Payload(
        [PageRow(0, "a", maps=[GroupMap("fur", values), GroupMap("", values * 0)])], [], 4
    )
    assert column(payload, "map_cell").tolist() == [255, 0, 128, 0, 0, 0, 0, 0]
    assert column(payload, "map_peak").tolist() == [2.0, 0.0]
    assert column(payload, "map_concept")[1] == -1
    assert column(payload, "map_cells").tolist() == [0, 4, 8]


def test_the_other_audit_is_matched_by_name():
    rows = [PageRow(0, "a"), PageRow(1, "b"), PageRow(2, "c")]
    there = [PageRow(5, "b", predictions=[(3, 0.6)]), PageRow(6, "c", failure="broken")]
    payload = Payload(rows, [], 4)
    payload.add_other(OtherAudit(None, there))
    assert column(payload, "other").tolist() == [-1, 3, -1]


def test_class_tables_name_places_on_the_page_and_no_number_that_json_lacks():
    nothing = Estimate(float("nan"), None, None, "Two images are too few.")
    concept = ConceptSummary("fur", "part", Estimate(1.0, 0.5, 1.5), None, nothing, 0.25, [40, 41])
    (table,) = class_tables([ClassSummary(1, "otter", 2, None, [concept])], Names(), {41: 0})
    (row,) = table["concepts"]
    assert row["images"] == [0]
    assert row["evidence"] == [1.0, 0.5, 1.5, ""]
    assert row["prevalence"] == [None, None, None, "Two images are too few."]
    assert row["share"] is table["accuracy"] is None

"""Maps of a run's examples."""

import numpy as np
import pytest
from audit_runs import audited, picture, plant
from textcam_client import Unavailable
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.records.maps import MAPS
from textcam_client.audit.run.examples import Examples
from textcam_client.audit.run.progress import Silent
from textcam_client.audit.run.settings import AuditSettings
from textcam_client.retry import Retry
from textcam_client.testing import serve_in_memory


@pytest.fixture
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture
def client(server):
    with server.client(retry=Retry(attempts=1)) as connected:
        yield connected


@pytest.fixture
def examples(server, client, tmp_path):
    data = plant(tmp_path / "data", 12)
    (data / "daisy" / "0001.png").write_bytes(b"broken")
    description = audited(client, data, tmp_path / "out")
    server.requests.clear()
    opened = open_data_set(str(data))
    return Examples(client, opened, tmp_path / "out", description, AuditSettings())


def test_maps_are_those_of_the_explained_class_and_asked_once(server, client, examples):
    found = examples.maps([2, 5])
    assert sorted(found) == [2, 5]
    row = list(examples._data.rows())[5]
    expected = client.explain(row.path, target="daisy")
    assert np.array_equal(found[5][0].values, expected.saliency_map)
    assert [one.phrase for one in found[5][1:]] == [one.text for one in expected.phrases]
    assert np.array_equal(found[5][1].values, expected.groups[0].saliency_map)
    asked = len(server.requests)
    assert sorted(examples.maps([2, 5])) == [2, 5]
    assert len(server.requests) == asked
    assert sorted(examples.maps([2, 6])) == [2, 6]
    assert len(server.requests) == asked + 1


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def test_a_damaged_file_of_maps_is_told_and_asked_for_again(server, examples, tmp_path):
    first = examples.maps([2, 5])
    (tmp_path / "out" / MAPS).write_bytes((tmp_path / "out" / MAPS).read_bytes()[:200])
    examples._progress = Notes()
    again = examples.maps([2, 5])
    assert np.array_equal(again[5][0].values, first[5][0].values)
    assert [note.endswith("asking for the maps again") for note in examples._progress.said] == [
        True
    ]
    asked = len(server.requests)
    assert sorted(examples.maps([2, 5])) == [2, 5]
    assert len(server.requests) == asked


def test_images_without_maps_are_told(examples):
    examples._progress = Notes()
    assert sorted(examples.maps([0, 1, 2])) == [1, 2]
    assert ["1 images have no maps" in note for note in examples._progress.said] == [True]


def test_failed_and_changed_images_have_none(examples, tmp_path):
    rows = list(examples._data.rows())
    assert rows[0].row_id == "daisy/0001.png"
    picture(99).save(rows[1].path)
    assert sorted(examples.maps([0, 1, 2])) == [2]


def test_a_server_that_is_away_is_told_at_once(server, examples):
    server.fail_with("UNAVAILABLE", "GONE", times=100)
    with pytest.raises(Unavailable):
        examples.maps([2, 3])

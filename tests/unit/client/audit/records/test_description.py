"""Description of an audit as audit.json."""

import json

import pytest
from audit_samples import description
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.description import read_description, write_description


def test_a_description_comes_back(tmp_path):
    path = tmp_path / "audit.json"
    write_description(path, description())
    first = path.read_bytes()
    found = read_description(path)
    assert found.model.title == "fake 1"
    assert (found.data.rows, found.settings) == (3, {"floor": 0.001})
    write_description(path, found)
    assert path.read_bytes() == first
    assert json.loads(first)["schema"] == "1"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"schema": "1"}', "is damaged"),
        (b'{"schema": "2"}', "has the schema '2', and this version of textcam reads '1'"),
    ],
)
def test_a_faulty_description_is_refused_in_words(tmp_path, content, fault):
    path = tmp_path / "audit.json"
    path.write_bytes(content)
    with pytest.raises(OutputRefused, match=fault):
        read_description(path)

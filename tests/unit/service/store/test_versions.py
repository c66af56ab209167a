"""Versions, the current one, and roll-backs, for a store of any kind of artefact."""

import uuid

import pytest
from textcam_service.errors import ArtefactMissing, StoreFailed
from textcam_service.store.filesystem import exists
from textcam_service.store.versions import VersionStore, store_errors


class OneFile(VersionStore):
    """A version is one file."""

    def add(self, name, version):
        self._fs.makedirs(self._path(name, version), exist_ok=True)
        self._fs.pipe_file(self._path(name, f"{version}/file"), b"")
        return self

    def _is_complete(self, name, version):
        return exists(self._fs, self._path(name, f"{version}/file"))

    @store_errors
    def fail(self):
        raise TimeoutError("nothing answered")


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    root = str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return OneFile(root).add("m", "1").add("m", "2").add("m", "3")


def test_versions_are_listed_with_the_current_one(store):
    store.add("a", "9").use("m", "2")
    assert store.names() == ("a", "m")
    listed = [(each.name, each.version, each.current) for each in store.list()]
    assert listed == [("a", "9", False), ("m", "1", False), ("m", "2", True), ("m", "3", False)]
    assert [each.version for each in store.list("m")] == ["1", "2", "3"]


def test_a_roll_back_goes_to_the_version_before_and_takes_its_drift(store):
    for version in "123":
        store.use("m", version)
    assert store.previous("m", store.current("m")) == ("2", "1")
    assert store.roll_back("m") == "2"
    assert store.current("m").accept_drift
    assert store.roll_back("m") == "1"
    with pytest.raises(ArtefactMissing, match="m has no version to roll back to"):
        store.roll_back("m")


def test_versions_that_no_server_took_are_passed_over_once_one_is_marked(store):
    for version in "123":
        store.use("m", version)
    store.mark_served("m", "1")
    store.mark_served("m", "1")
    assert store.previous("m", store.current("m")) == ("1",)
    assert store.roll_back("m") == "1"


def test_a_version_that_is_not_there_cannot_be_current(store):
    with pytest.raises(ArtefactMissing, match=r"m@4 is missing, or incomplete, .*it holds 1, 2, 3"):
        store.use("m", "4")
    with pytest.raises(ArtefactMissing, match="no version of 'n' is published"):
        store.roll_back("n")
    assert store.current("m") is None


def test_errors_of_a_file_system_name_the_store(store):
    with pytest.raises(StoreFailed, match=r"failed \(TimeoutError: nothing answered\)") as failed:
        store.fail()
    assert store.root in str(failed.value)

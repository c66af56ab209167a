"""Output folders."""

from dataclasses import replace

import pytest
from audit_samples import description
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.run.output import OutputFolder, require_apart, require_same


def test_a_second_holder_of_a_folder_is_refused(tmp_path):
    second = OutputFolder(tmp_path / "out").locked()
    with (
        OutputFolder(tmp_path / "out").locked(),
        pytest.raises(OutputRefused, match="another process audits into"),
    ):
        second.__enter__()
    with OutputFolder(tmp_path / "out").locked():
        pass


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.locked():
        folder.clean()
        with OutputFolder(tmp_path).locked():
            assert (tmp_path / ".work" / "lock").exists()


def test_a_holder_that_gave_its_folder_up_leaves_the_next_ones_alone(tmp_path):
    first, second = OutputFolder(tmp_path).locked(), OutputFolder(tmp_path).locked()
    first.__enter__()
    OutputFolder(tmp_path).clean()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(OutputRefused, match="another process"), OutputFolder(tmp_path).locked():
        pass
    second.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_a_finished_audit_as_it_was(tmp_path):
    folder = OutputFolder(tmp_path)
    folder.finish(description())
    with pytest.raises(OutputRefused), folder.locked():
        raise OutputRefused
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputRefused, match="holds other files"), OutputFolder(tmp_path).locked():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_audit_is_begun_then_finished(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.locked():
        assert (folder.begun(), folder.finished()) == (None, None)
        folder.begin(description())
        assert folder.begun().model.title == "fake 1"
        folder.finish(description())
        folder.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]
    assert folder.finished().data.rows == 3
    with OutputFolder(tmp_path).locked():
        assert folder.begun() is None


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (description(rows=4), "an audit of other data: 3 rows of data, not these 4 rows"),
        (description(version="2"), "of the model fake 1, not of fake 2"),
        (description(bank_digest="sha256:x"), "another fake 1: its bank was sha256:k and is now"),
        (replace(description(), settings={"floor": 0.5}), "with floor 0.001, not 0.5"),
    ],
)
def test_another_audit_in_the_folder_is_refused_in_words(tmp_path, other, fault):
    require_same(tmp_path, description(), description())
    with pytest.raises(OutputRefused, match=fault):
        require_same(tmp_path, description(), other)


def test_a_folder_in_the_data_set_is_refused_however_it_is_named(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for output in (
        data,
        data / "out",
        tmp_path / "link" / "new" / "out",
        data / "x" / ".." / "out",
    ):
        for name in (f"{data}", f"file://{data}"):
            with pytest.raises(
                OutputRefused, match=r"lies in the data set .*: choose a folder outs"
            ):
                require_apart(output, name)
    require_apart(tmp_path / "out", str(data))
    require_apart(tmp_path / "data-out", str(data))
    (data / "list.csv").touch()
    require_apart(data / "out", str(data / "list.csv"))

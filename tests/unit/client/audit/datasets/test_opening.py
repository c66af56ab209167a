"""Choice of the reader of a data set."""

import fsspec
import pytest
from textcam_client.audit.datasets.dataset import DataOptions
from textcam_client.audit.datasets.folder import FolderTree
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.datasets.shards import Shards
from textcam_client.audit.datasets.table import TableList
from textcam_client.audit.errors import DataSetError


def test_the_reader_follows_from_what_is_there(tmp_path):
    (tmp_path / "tars").mkdir()
    for name in ("tars/train-0.tar", "tars/val-0.tar", "list.csv"):
        (tmp_path / name).touch()
    assert isinstance(open_data_set(str(tmp_path)), FolderTree)
    assert isinstance(open_data_set(str(tmp_path / "list.csv")), TableList)
    assert isinstance(open_data_set(str(tmp_path / "tars")), Shards)
    pattern = open_data_set(str(tmp_path / "tars" / "train-*.tar"))
    assert isinstance(pattern, Shards)
    assert pattern._tars == [str(tmp_path / "tars" / "train-0.tar")]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("nowhere", "no such file or folder"),
        ("notes.txt", "is no data set"),
        ("none-*.tar", "no such file or folder"),
    ],
)
def test_what_is_no_data_set_is_refused_in_words(tmp_path, name, fault):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataSetError, match=fault):
        open_data_set(str(tmp_path / name))


def test_masks_lie_beside_the_images_tree_as_png_or_by_their_own_name(tmp_path):
    for path in ("i/cat/a.jpg", "i/cat/b.jpg", "i/cat/c.jpg", "m/cat/a.png", "m/cat/b.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    data = open_data_set(str(tmp_path / "i"), DataOptions(masks=str(tmp_path / "m")))
    first, second, third = data.rows()
    assert (first.read_mask(), second.read_mask()) == (b"m/cat/a.png", b"m/cat/b.jpg")
    with pytest.raises(FileNotFoundError, match="no mask"):
        third.read_mask()
    with pytest.raises(DataSetError, match="no folder of masks"):
        open_data_set(str(tmp_path / "i"), DataOptions(masks=str(tmp_path / "n")))


def test_a_url_is_read_like_a_local_folder(tmp_path):
    system = fsspec.filesystem("memory")
    system.pipe(
        {"/data/cat/a.jpg": b"one", "/data/dog/b.jpg": b"two", "/data/l.csv": b"path\ncat/a.jpg\n"}
    )
    rows = list(open_data_set("memory://data").rows())
    assert [(row.row_id, row.label, row.read()) for row in rows] == [
        ("cat/a.jpg", "cat", b"one"),
        ("dog/b.jpg", "dog", b"two"),
    ]
    (row,) = open_data_set("memory://data/l.csv").rows()
    assert row.read() == b"one"


def test_an_unknown_scheme_is_refused_in_words():
    with pytest.raises(DataSetError, match="cannot read nothing://data"):
        open_data_set("nothing://data")


def test_tars_beside_images_are_refused_unless_a_pattern_names_them(tmp_path):
    for path in ("cat/notes/a.jpg", "backup.tar"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    fault = r"holds tars and images alike, such as .*backup\.tar and .*a\.jpg: move one"
    with pytest.raises(DataSetError, match=fault):
        open_data_set(str(tmp_path))
    assert isinstance(open_data_set(str(tmp_path / "*.tar")), Shards)
    (tmp_path / "cat" / "notes" / "a.jpg").rename(tmp_path / "cat" / "notes" / "a.txt")
    assert isinstance(open_data_set(str(tmp_path)), Shards)

"""The store on a local folder and in memory."""

import errno
import uuid
from pathlib import Path

import numpy as np
import pytest
from textcam_service.artefacts.bank import ConceptBank, Vocabulary, read_bank, write_bank
from textcam_service.artefacts.files import read_artefact, replaced_folder
from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactMissing,
    BundleMismatch,
    FolderTaken,
    InvalidSettings,
    StoreFailed,
    VersionExists,
)
from textcam_service.store.banks import BankStore


def bank_folder(folder, seed=0, embedder="e"):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bank = ConceptBank(
        vectors[:6], np.zeros(6, bool), vectors[0], np.ones(6, np.float32), "sha256:b", "e", {}
    )
    write_bank(folder, bank, Vocabulary(("one", "two", "three"), vectors[6:], embedder))
    return folder


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    root = tmp_path / "store" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return BankStore(root)


def test_what_is_published_is_what_is_loaded(store, tmp_path):
    folder = bank_folder(tmp_path / "bank")
    version = store.publish("photos", folder)
    loaded, own = store.load("photos"), read_bank(folder)
    assert loaded.bank_digest == own.bank_digest
    assert (loaded.bank.channel_embeddings == own.bank.channel_embeddings).all()
    assert loaded.vocabulary.phrases == ("one", "two", "three")
    store.verify("photos", version)


def test_another_vocabulary_of_the_same_bank_is_another_version(store, tmp_path):
    folder = bank_folder(tmp_path / "bank")
    first, own = store.publish("photos", folder), read_bank(folder)
    fewer = Vocabulary(("one", "two"), own.vocabulary.embeddings[:2], own.vocabulary.embedder)
    write_bank(tmp_path / "other", own.bank, fewer)
    assert read_bank(tmp_path / "other").bank_digest == own.bank_digest
    second = store.publish("photos", tmp_path / "other")
    assert (first != second, len(first), len(second)) == (True, 12, 12)
    with pytest.raises(VersionExists):
        store.publish("photos", folder)


def test_versions_are_listed_and_rolled_back(store, tmp_path):
    for number in (1, 2, 3):
        store.publish("photos", bank_folder(tmp_path / f"{number}", number), f"v{number}")
    assert [(v.version, v.current) for v in store.list()] == [
        ("v1", False),
        ("v2", False),
        ("v3", True),
    ]
    assert store.roll_back("photos") == "v2"
    assert store.roll_back("photos") == "v1"
    with pytest.raises(ArtefactMissing, match="no version to roll back"):
        store.roll_back("photos")
    assert [v.version for v in store.list("photos") if v.current] == ["v1"]


def test_a_version_is_published_once(store, tmp_path):
    folder = bank_folder(tmp_path / "bank")
    store.publish("photos", folder, "v1")
    with pytest.raises(VersionExists):
        store.publish("photos", folder, "v1")


def test_a_failed_upload_leaves_nothing_and_the_old_version_current(store, tmp_path, monkeypatch):
    store.publish("photos", bank_folder(tmp_path / "1", 1), "v1")
    second = bank_folder(tmp_path / "2", 2)
    put, calls = store._fs.put_file, []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("disk full")
        return put(*arguments, **options)

    monkeypatch.setattr(store._fs, "put_file", failing)
    with pytest.raises(StoreFailed, match="disk full"):
        store.publish("photos", second, "v2")
    monkeypatch.undo()
    assert [(v.version, v.current) for v in store.list()] == [("v1", True)]
    assert store.publish("photos", second, "v2") == "v2"


def test_what_is_not_there_is_named(store):
    with pytest.raises(ArtefactMissing, match="photos"):
        store.load("photos")
    assert store.list() == ()
    with pytest.raises(InvalidSettings):
        store.load("../photos")


@pytest.mark.parametrize("file", ["bank.json", "bank.safetensors", "vocabulary.json"])
def test_a_changed_byte_is_noticed(tmp_path, file):
    folder = bank_folder(tmp_path / "bank")
    path = folder / file
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactCorrupt):
        read_bank(folder)
    path.unlink()
    with pytest.raises(ArtefactMissing):
        read_artefact(folder, file.partition(".")[0])


def test_bank_and_vocabulary_of_different_embedders_are_refused(tmp_path):
    with pytest.raises(BundleMismatch, match="embed the vocabulary"):
        bank_folder(tmp_path / "bank", embedder="other")
    assert not (tmp_path / "bank").exists()


def test_a_crash_while_writing_leaves_the_old_folder(tmp_path):
    def crash():
        with replaced_folder(tmp_path / "x", ["file"]) as staging:
            (staging / "file").write_text("new")
            raise KeyboardInterrupt

    with replaced_folder(tmp_path / "x", ()) as staging:
        (staging / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        crash()
    assert (tmp_path / "x" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png", "bank.json"):
        (photos / name).write_text(name)
    with pytest.raises(FolderTaken, match=r"photos .* holds 'a.png' and 1 more; give a folder"):
        bank_folder(photos)
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "bank.json"]
    assert list(tmp_path.iterdir()) == [photos]


def test_an_empty_folder_and_an_older_bank_are_replaced(tmp_path):
    (tmp_path / "bank").mkdir()
    for _ in range(2):
        read_bank(bank_folder(tmp_path / "bank"))
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_where_a_link_leads_is_replaced_not_the_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "bank"
    link.symlink_to(tmp_path / "disk")
    for _ in range(2):
        bank_folder(link)
        assert link.is_symlink()
        read_bank(tmp_path / "disk")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "disk"]


def test_the_folder_that_one_stands_in_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "bank").mkdir()
    monkeypatch.chdir(tmp_path / "bank")
    bank_folder(Path())
    read_bank(tmp_path / "bank")


def test_where_the_new_folder_cannot_be_moved_there_the_old_one_comes_back(tmp_path, monkeypatch):
    rename = Path.rename
    moves = []

    def second_fails(path, target):
        moves.append(path.name)
        if len(moves) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    bank_folder(tmp_path / "bank")
    before = (tmp_path / "bank" / "bank.json").read_bytes()
    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        bank_folder(tmp_path / "bank")
    assert (tmp_path / "bank" / "bank.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_a_disks_own_folder_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "bank").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "bank")
    with pytest.raises(FolderTaken, match="a disk is mounted"):
        bank_folder(tmp_path / "bank")


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000])
def test_what_is_no_manifest_is_corrupt(tmp_path, text):
    bank_folder(tmp_path / "bank")
    (tmp_path / "bank" / "bank.json").write_text(text)
    with pytest.raises(ArtefactCorrupt, match="is not a manifest"):
        read_bank(tmp_path / "bank")

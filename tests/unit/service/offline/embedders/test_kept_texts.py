"""Kept texts: each is embedded once, whatever it is asked for with."""

import numpy as np
import pytest
from textcam_service.offline.embedders import kept_texts as module
from textcam_service.offline.embedders.kept_texts import KeptTexts, write_packaged

MANY = [f"text {number}" for number in range(40)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "textcam"


class Lengths:
    """Embeds a text by its length and the sum of its bytes; notes what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, texts):
        self.given += texts
        rows = [[len(text), sum(text.encode())] for text in texts]
        return np.array(rows, np.float32).reshape(-1, 2)


def test_rows_come_in_the_order_of_the_texts_and_repeated_ones_are_computed_once():
    compute = Lengths()
    found = KeptTexts("e").embed(["b", "a", "b"], compute)
    assert found.tolist() == [[1, 98], [1, 97], [1, 98]]
    assert compute.given == ["b", "a"]
    assert KeptTexts("e").embed([], compute).shape == (0, 2)


def test_many_texts_are_computed_once_and_a_changed_one_again():
    compute = Lengths()
    first = KeptTexts("e").embed(MANY, compute)
    changed = [*MANY[:-1], "changed"]
    again = KeptTexts("e").embed(changed, compute)
    np.testing.assert_array_equal(again[:-1], first[:-1])
    assert compute.given == [*MANY, "changed"]


def test_another_embedder_reads_nothing_of_the_first():
    compute = Lengths()
    KeptTexts("e").embed(MANY, compute)
    KeptTexts("f").embed(MANY, compute)
    assert compute.given == [*MANY, *MANY]


def test_a_damaged_file_is_told_removed_and_made_anew(folder, caplog):
    compute = Lengths()
    first = KeptTexts("e").embed(MANY, compute)
    (path,) = folder.glob("texts-*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    np.testing.assert_array_equal(KeptTexts("e").embed(MANY, compute), first)
    assert compute.given == [*MANY, *MANY]
    assert "made anew" in caplog.text
    KeptTexts("e").embed(MANY, compute)
    assert compute.given == [*MANY, *MANY]


def test_few_texts_are_not_written(folder):
    KeptTexts("e").embed(MANY[:5], Lengths())
    assert not folder.exists()


def test_many_files_are_joined_to_one_and_the_newest_texts_stay(folder, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 100)
    compute = Lengths()
    parts = [[f"{part} {number}" for number in range(40)] for part in range(module._PARTS + 1)]
    for part in parts:
        KeptTexts("e").embed(part, compute)
    assert len(list(folder.glob("texts-*"))) == 1
    before = len(compute.given)
    KeptTexts("e").embed(parts[-1], compute)
    KeptTexts("e").embed(parts[-2], compute)
    assert len(compute.given) == before
    KeptTexts("e").embed(parts[0], compute)
    assert len(compute.given) == before + 40


def test_packaged_rows_are_read_for_their_own_embedder_alone(tmp_path):
    write_packaged(tmp_path, "e", MANY, Lengths()(MANY))
    compute = Lengths()
    found = KeptTexts("e", tmp_path).embed(MANY[3:5], compute)
    assert found.tolist() == Lengths()(MANY[3:5]).tolist()
    assert compute.given == []
    KeptTexts("f", tmp_path).embed(MANY[3:5], compute)
    assert compute.given == MANY[3:5]

"""Image folders, vocabularies and labels: what is read, and what is refused."""

import os
from pathlib import Path

import pytest
from PIL import Image
from textcam_service.core.types import PHRASE_KINDS
from textcam_service.errors import ProbingSetError, VocabularyError
from textcam_service.imaging.decoding import ImageLimits
from textcam_service.offline import dataset
from textcam_service.offline.banks.attribute_tables import (
    PACKAGED,
)
from textcam_service.offline.dataset import (
    ImageFolder,
    display_path,
    escape,
    read_labels,
    read_phrases,
    read_vocabulary,
)

VOCABULARY, KINDS = read_vocabulary(PACKAGED.with_name("vocabulary.txt"))


NAMES = ("tabby, tabby cat", "red fox", "barn owl", "7")


def test_kinds_hold_from_their_line_on(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("dog\n# kind: part\npaw\n  # a comment\ntail\n#kind:colour\nred\n")
    assert read_vocabulary(path) == (
        ("dog", "paw", "tail", "red"),
        ("", "part", "part", "colour"),
    )


@pytest.mark.parametrize("kind", ["things", "color", "Part"])
def test_an_unknown_kind_is_refused_with_those_there_are(kind, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(f"# kind: {kind}\ndog\n")
    listed = ", ".join(PHRASE_KINDS)
    with pytest.raises(VocabularyError, match=f"has the kind '{kind}'; there are {listed}"):
        read_vocabulary(path)


@pytest.mark.parametrize("line", ["# Kind: part", "# kinds: part", "## kind:", "# kind : part"])
def test_a_line_that_nearly_says_a_kind_is_refused(line, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(f"{line}\npaw\n")
    with pytest.raises(VocabularyError, match="a kind is set by '# kind: KIND', with one"):
        read_vocabulary(path)


def test_every_phrase_of_the_packaged_vocabulary_has_a_kind():
    assert set(KINDS) == set(PHRASE_KINDS)
    assert KINDS[VOCABULARY.index("animal")] == "category"


@pytest.fixture
def labelled(tmp_path):
    for folder in ("a", "b/deep"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("a/1.png", "b/deep/2.png", "a/3.png", "b/3.png"):
        (tmp_path / file).touch()
    return tmp_path, [tmp_path / "a", tmp_path / "b"]


def write_labels(folder, *rows, head="file,label"):
    path = folder / "labels.csv"
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8-sig")
    return path


def test_labels_are_names_or_indices_of_files_under_any_folder(labelled):
    folder, folders = labelled
    rows = ['1.png,"Tabby, tabby cat"', "deep/2.png, 2 ", "3.png,red fox", "gone.png,0"]
    assert read_labels(write_labels(folder, *rows), folders, NAMES) == {
        folder / "a/1.png": 0,
        folder / "b/deep/2.png": 2,
        folder / "a/3.png": 1,
        folder / "b/3.png": 1,
    }


@pytest.mark.parametrize(
    ("rows", "head", "said"),
    [
        (["1.png,stork"], "file,label", "line 2: 'stork' is none of .* 4 classes: tabby, "),
        (["1.png,4"], "file,label", "line 2: '4' is none of"),
        (["1.png,0"], "image,label", "have no column 'file'; .* have image, label"),
        (["1.png"], "file,label", "line 2: a file and its label are needed"),
        (["gone.png,0"], "file,label", r"none of the files that .*labels\.csv names is under"),
    ],
)
def test_labels_at_fault_are_refused_in_words(rows, head, said, labelled):
    folder, folders = labelled
    with pytest.raises(ProbingSetError, match=said):
        read_labels(write_labels(folder, *rows, head=head), folders, NAMES)


def test_labels_that_are_not_there_are_told(labelled):
    with pytest.raises(ProbingSetError, match="cannot be read as CSV"):
        read_labels(labelled[0] / "absent.csv", labelled[1], NAMES)


# --- image folders -------------------------------------------------------------------------------


def image(path, size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def test_folders_are_listed_as_given_each_sorted_and_each_image_once(tmp_path):
    names = ("b/2.png", "b/1.JPG", "a/x/1.webp", "a/0.png")
    paths = {name: image(tmp_path / name) for name in names}
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "link.png").symlink_to(paths["b/2.png"])
    found = ImageFolder.find([tmp_path / "b", tmp_path / "a", tmp_path / "b"])
    assert list(found) == [paths[name] for name in ("b/1.JPG", "b/2.png", "a/0.png", "a/x/1.webp")]
    assert found[1] == paths["b/2.png"]
    assert list(found[2:]) == list(found)[2:]
    assert isinstance(found[2:], ImageFolder)


def test_a_folder_that_is_not_there_or_holds_no_image_is_refused(tmp_path):
    with pytest.raises(ProbingSetError, match="absent is not there"):
        ImageFolder.find([tmp_path / "absent"])
    with pytest.raises(ProbingSetError, match="no JPEG, PNG, WebP or AVIF file under"):
        ImageFolder.find([tmp_path])


def test_images_are_decoded_in_order_and_damaged_ones_skipped_with_a_reason(tmp_path):
    paths = [image(tmp_path / f"{name}.png", (4 + place, 3)) for place, name in enumerate("abc")]
    paths[1].write_bytes(b"damaged")
    paths[2].unlink()
    skipped = []
    found = list(ImageFolder(paths).read_images(skipped.append))
    assert [(path, picture.size) for path, picture in found] == [(paths[0], (4, 3))]
    assert [skip.path for skip in skipped] == [str(paths[1]), str(paths[2])]
    assert all(skip.reason for skip in skipped)
    assert len(list(ImageFolder(paths).read_images())) == 1


def test_an_image_beyond_the_limits_is_skipped(tmp_path, monkeypatch):
    path = image(tmp_path / "large.png", (20, 20))
    monkeypatch.setattr(dataset, "LIMITS", ImageLimits(max_bytes=1000, max_pixels=399))
    skipped = []
    assert list(ImageFolder([path]).read_images(skipped.append)) == []
    assert len(skipped) == 1


def test_a_stamp_tells_a_file_from_a_later_one_of_its_name(tmp_path):
    folder = ImageFolder([image(tmp_path / "a.png")])
    (one,) = folder.stamps()
    assert one[:2] == (str(folder[0]), folder[0].stat().st_size)
    os.utime(folder[0], ns=(1, 1))
    assert folder.stamps() == [(*one[:2], 1)]


def test_names_that_are_no_utf_8_are_shown_as_text_that_no_other_name_has():
    odd, plain = Path(os.fsdecode(b"worse\xff.png")), Path(r"worse\xff.png")
    assert escape(str(odd)) == display_path(odd) == r"worse\xff.png"
    assert display_path(plain) == r"worse\\xff.png"
    assert display_path(Path("caf\xe9.png")) == "caf\xe9.png"


def test_a_vocabulary_may_have_a_mark_and_indented_comments_and_is_utf_8(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes("\ufeffcaf\xe9\n  # of places\n\n bar \n".encode())
    assert read_phrases(file) == ("caf\xe9", "bar")
    file.write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(VocabularyError, match=r"words\.txt is not UTF-8 text .*save it as UTF-8"):
        read_phrases(file)


@pytest.mark.parametrize(
    ("text", "said"), [("# only this\n", "holds no phrase"), ("Red\nred\n", "holds 'red' twice")]
)
def test_a_vocabulary_without_phrases_or_with_one_twice_is_refused(text, said, tmp_path):
    (tmp_path / "words.txt").write_text(text)
    with pytest.raises(VocabularyError, match=said):
        read_phrases(tmp_path / "words.txt")

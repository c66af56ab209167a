"""Rows on their way through a run."""

import hashlib
from dataclasses import replace

import pytest
from audit_samples import record
from textcam_client.audit.rows import Row
from textcam_client.audit.run.slots import opened, shared


def row(content=b"image", mask=None, **changes):
    values = Row(0, "a", "/a", "cat", lambda: content, {"light": "day"})
    return replace(values, read_mask=None if mask is None else lambda: mask, **changes)


def test_a_row_is_read_with_its_digest():
    slot = opened(row(), 0)
    assert slot.record.content_digest == f"sha256:{hashlib.sha256(b'image').hexdigest()}"
    assert (slot.content, slot.done, slot.record.label_index) == (b"image", False, 0)
    slot.finish(slot.record)
    assert (slot.content, slot.done) == (b"", True)


def test_rows_share_an_answer_by_content_target_and_mask():
    same = opened(row(row_id="b"), 0).key
    assert opened(row(), 0).key == same != 0
    others = [
        (row(b"other"), 0),
        (row(), 1),
        (row(), None),
        (row(mask=b""), 0),
        (row(mask=b"m"), 0),
    ]
    assert len({opened(*one).key for one in others} | {same}) == len(others) + 1


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), KeyError("gone")])
def test_a_file_that_cannot_be_read_is_a_failure_with_its_reason(error):
    def read():
        raise error

    slot = opened(row(read=read), 0)
    assert (slot.done, slot.key, slot.record.failure_reason) == (True, 0, "IMAGE_UNREADABLE")
    assert slot.record.failure.startswith("cannot read the image: ")
    slot = opened(replace(row(), read_mask=read), 0)
    assert (slot.done, slot.mask) == (False, None)
    assert slot.record.mask_failure.startswith("cannot read the mask: ")


def test_a_shared_answer_keeps_what_is_the_rows_own():
    own = record(5, label=1, slices={"light": "dusk"})
    answer = record(2, label=1, predicted=2)
    found = shared(own, answer)
    assert (found.index, found.row_id, found.slices) == (5, "row-5", {"light": "dusk"})
    assert (found.predictions, found.error) == (answer.predictions, answer.error)

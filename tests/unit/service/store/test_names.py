"""Names that can be folders' names."""

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.store.names import checked_name


@pytest.mark.parametrize("name", ["photos", "v1.2", "_x", "2026-12-01", "-"])
def test_a_name_is_returned_as_it_is(name):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "a\n", "current.json", "ä"])
def test_a_name_that_leads_elsewhere_or_is_taken_is_refused(name):
    with pytest.raises(InvalidSettings, match="is not a valid name"):
        checked_name(name)

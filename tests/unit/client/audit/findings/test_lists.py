from textcam_client.audit.findings.lists import ConceptLists, matches

LISTS = ConceptLists(
    allowed={"cow": ["*fur", "horns"]},
    banned={"cow": ["grass"]},
    allowed_everywhere=["animal"],
    banned_everywhere=["watermark*"],
)


def test_a_class_without_a_list_allows_and_forbids_nothing():
    assert LISTS.is_allowed("dog", "grass") is None
    assert LISTS.banned_among("dog", ["grass"]) == []


def test_patterns_match_whole_phrases_in_any_case():
    assert LISTS.is_allowed("cow", "Brown Fur") is True
    assert LISTS.is_allowed("cow", "furniture") is False
    assert LISTS.is_allowed("cow", "animal") is True
    assert LISTS.banned_among("dog", ["grass", "watermark of a shop"]) == [1]
    assert not matches("sea", ["sea lion"])

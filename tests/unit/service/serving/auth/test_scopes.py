"""Scopes of tokens as identity providers write them, and what is said about others."""

import re

import pytest
from textcam_service.serving.auth.scopes import read_scopes

METHODS = {"Explain", "ListModels"}
RIGHTS = ["openid", "textcam:method:Explain", "textcam:method:*", "textcam:model:cats"]


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": " ".join(RIGHTS)},
        {"scope": RIGHTS},
        {"scp": " ".join(RIGHTS)},
        {"scp": RIGHTS},
        {"scp": RIGHTS[:2], "scope": " ".join(RIGHTS[2:])},
        {"scope": ["openid textcam:method:Explain", "textcam:method:* textcam:model:cats"]},
    ],
)
def test_scopes_are_texts_or_lists_in_either_claim(claims):
    scopes = read_scopes({"sub": "a", **claims}, METHODS)
    assert (scopes.methods, scopes.models) == ({"Explain", "*"}, {"cats"})
    assert scopes.faults == ()


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"permissions": ["textcam:method:*"]}, "no scope .* its claims: 'permissions', 'sub'"),
        ({"scope": "openid"}, "no scope in 'scope' or 'scp' begins with 'textcam:'"),
        ({"scope": {"textcam:method:*": True}}, "'scope' is no text or list of texts"),
        ({"scp": [1]}, "'scp' is no text or list of texts"),
        ({"scope": 7}, "'scope' is no text or list of texts"),
        ({"scope": "textcam:methods:Explain"}, "'textcam:methods:Explain' is not of the form"),
        ({"scope": "textcam:method:"}, "'textcam:method:' is not of the form"),
        ({"scope": "textcam:method:explain"}, "'textcam:method:explain' names no method"),
        ({"scope": "textcam:method:*,textcam:model:*"}, "names no method"),
    ],
)
def test_what_is_not_understood_is_said_and_grants_nothing(claims, fault):
    scopes = read_scopes({"sub": "a", **claims}, METHODS)
    assert not scopes.methods & {"*", *METHODS}
    assert scopes.models == frozenset()
    assert any(re.search(fault, each) for each in scopes.faults)


def test_a_list_grants_what_is_text_in_it():
    scopes = read_scopes({"scope": ["textcam:model:*", None]}, METHODS)
    assert (scopes.models, scopes.faults) == ({"*"}, ("'scope' is no text or list of texts",))

"""Pages of models."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam_service.errors import InvalidArgument
from textcam_service.serving.grpc.explainer.pagination import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    read_page,
)


def models(*names):
    return [SimpleNamespace(name=name) for name in sorted(names)]


def page(served, **given):
    found, token = read_page(pb.ListModelsRequest(**given), served)
    return [model.name for model in found], token


def pages(served, size):
    token, found = None, []
    while token != "":
        names, token = page(served, page_size=size, page_token=token or "")
        found.append(names)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_pages_have_each_model_once_in_order_of_name(size):
    names = ["b", "a", "katze", "c/d", "größer", "日本", "e f"]
    found = pages(models(*names), size)
    assert [name for one in found for name in one] == sorted(names)
    assert {len(one) for one in found[:-1]} <= {size}
    assert found[-1]


def test_no_models_are_one_empty_page():
    assert page([]) == ([], "")


@pytest.mark.parametrize(
    ("given", "size"), [(0, DEFAULT_PAGE_SIZE), (5, 5), (MAX_PAGE_SIZE + 1, MAX_PAGE_SIZE)]
)
def test_a_page_is_as_large_as_is_asked_for_within_the_limit(given, size):
    names, token = page(models(*(f"{number:05}" for number in range(3000))), page_size=given)
    assert len(names) == size
    assert token


def test_models_that_come_and_go_between_pages_neither_repeat_nor_hide_others():
    _, token = page(models("b", "d", "f"), page_size=2)
    assert page(models("a", "c", "f", "g"), page_token=token)[0] == ["f", "g"]


def test_a_negative_size_is_refused():
    with pytest.raises(InvalidArgument, match="not -1") as refused:
        page(models("a"), page_size=-1)
    assert refused.value.field == "page_size"


@pytest.mark.parametrize(
    "token",
    ["junk", "a", "ä", "====", *(base64.b64encode(b).decode() for b in (b"b", b"after:\xff"))],
)
def test_a_token_that_no_page_gave_is_refused(token):
    with pytest.raises(InvalidArgument, match="did not come from this server") as refused:
        page(models("a"), page_token=token)
    assert refused.value.field == "page_token"

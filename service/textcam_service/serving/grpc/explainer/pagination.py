"""Pages of ListModels, in order of name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from textcam.v1 import explainer_pb2 as pb

from textcam_service.errors import InvalidArgument
from textcam_service.model.bundle import ModelBundle

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
# A token is this and the name of the page's last model, in base64. So models that come and go
# between two pages neither repeat nor hide others.
_PREFIX = b"after:"


def read_page(
    request: pb.ListModelsRequest, served: Sequence[ModelBundle]
) -> tuple[Sequence[ModelBundle], str]:
    """Return the page that a request asks for, and the token of the next one.

    Args:
        request: The request.
        served: All models that the caller may know of, in order of name.

    Returns:
        The models of the page, in order of name, and the token; "": there are no more models.

    Raises:
        InvalidArgument: The page size is negative, or the token was not made by `read_page`.
    """
    if request.page_size < 0:
        raise InvalidArgument(
            f"page_size is 0 (the default, {DEFAULT_PAGE_SIZE}) or more, not {request.page_size}",
            field="page_size",
        )
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    left = served
    if request.page_token:
        last = _read_token(request.page_token)
        left = [bundle for bundle in served if bundle.name > last]
    page = left[:size]
    return page, _token(page[-1].name) if len(left) > size else ""


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(_PREFIX + name.encode()).decode()


def _read_token(token: str) -> str:
    """Return the name of the last model before the page."""
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        if decoded.startswith(_PREFIX):
            return decoded.removeprefix(_PREFIX).decode()
    except (binascii.Error, ValueError):
        pass
    raise InvalidArgument(
        "page_token did not come from this server; leave it out for the first page",
        field="page_token",
    )

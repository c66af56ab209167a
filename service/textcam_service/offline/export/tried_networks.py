"""Networks whose export was tried: which, and whether a network is one of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

TRIED = Path(__file__).parents[2] / "data" / "tried_networks.txt"


def tried_note(name: str) -> str:
    """Say, for people, how much the export of a network of torchvision or timm was tried.

    Args:
        name: "torchvision:NAME" or "timm:NAME"; a tag of weights is left out ("resnet18.a1_in1k").

    Returns:
        A sentence; empty for any other name.
    """
    library, _, model = name.partition(":")
    if library not in {"torchvision", "timm"}:
        return ""
    known = _tried()
    architecture = f"{library}:{model.partition('.')[0]}"
    if architecture in known:
        return (
            f"{architecture} is one of {len(known)} networks whose export and maps were tried, "
            "with seeded weights"
        )
    return (
        f"{architecture} is none of the {len(known)} networks whose export and maps were tried; "
        "look at some of its maps before you rely on them"
    )


@cache
def _tried() -> frozenset[str]:
    return frozenset(TRIED.read_text("utf-8").split())

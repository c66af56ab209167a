"""Interface of the sessions that run a backbone's graphs, of onnxruntime or OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Session(Protocol):
    """A graph that can be run; onnxruntime's InferenceSession and OpenVinoSession are such."""

    def run(
        self,
        output_names: Sequence[str],
        input_feed: Mapping[str, NDArray[Any]],
        run_options: Any = None,
        /,
    ) -> list[NDArray[Any]]:
        """Compute the named outputs (N, ...) of a batch."""

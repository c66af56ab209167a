"""The log of the server's processes."""

from __future__ import annotations

import logging


def start_logging(level: str, mark: str = "") -> None:
    """Log to standard error from `level` on; `mark` stands in each line before the logger's name.

    Nothing of a request goes into the log but its id.
    """
    logging.basicConfig(
        level=level.upper(), format=f"%(asctime)s %(levelname)s {mark}%(name)s %(message)s"
    )
    # At DEBUG it writes what it finds in images: places, names, whole tags of EXIF.
    logging.getLogger("PIL").setLevel(logging.INFO)

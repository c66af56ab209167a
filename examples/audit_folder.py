"""Explain all images of a folder over one stream, a line of JSON for each.

    textcam serve
    python examples/audit_folder.py photos/ > audit.jsonl

An image that fails gets a line with its error, and the audit goes on. Memory does not grow with the
number of images, and the server serves interactive callers first.
"""

import argparse
import json
import sys
from pathlib import Path

from textcam_client import Client, TextCamClientError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif"}


def main() -> int:
    """Write the lines to standard output; return 1 if an image failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--concurrency", type=int, default=8)
    arguments = parser.parse_args()

    images = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    failed = 0
    with Client(arguments.server, timeout=60) as client:
        results = client.explain_many(
            images,
            concurrency=arguments.concurrency,
            heatmap="none",  # only words and numbers; leave it out to get maps
            on_error="return",
        )
        for image, result in zip(images, results, strict=True):
            line = {"file": str(image)}
            if isinstance(result, TextCamClientError):
                failed += 1
                line |= {"error": str(result)}
            else:
                line |= {
                    "class": result.target.class_name,
                    "probability": result.target.probability,
                    "phrases": {phrase.text: phrase.probability for phrase in result.phrases},
                    "sentence": result.sentence,
                    "model": f"{result.provenance.model_name} {result.provenance.model_version}",
                }
            print(json.dumps(line), flush=True)
    sys.stderr.write(f"{len(images) - failed} explained, {failed} failed\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

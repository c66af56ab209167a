"""Truth files for `textcam evaluate` from the evaluation photographs.

    python tests/bench/prepare_truth.py --output build/truth

photos: a phrase is right when it is a hypernym (WordNet 3.0) of the class that is explained.
caltech: a phrase is right when it is the picture's category. Each comes with its vocabulary.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

from bench_words import hypernym_truth, read_wordnet

CALTECH_STEP = 4  # every fourth picture: enough, and it fits in memory


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet/data.noun"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--output", type=Path, default=Path("build/truth"))
    arguments = parser.parse_args()
    shared = arguments.shared.resolve()
    for path in (shared / "photos" / "labels.csv", shared / "caltech", arguments.wordnet):
        if not path.exists():
            sys.exit(f"SKIPPED: {path} is not there; no truth was prepared")
    arguments.output.mkdir(parents=True, exist_ok=True)

    phrases, truth = hypernym_truth(*read_wordnet(arguments.wordnet))
    with (shared / "photos" / "labels.csv").open() as file:
        files = [str(shared / "photos" / row["file"]) for row in csv.DictReader(file)]
    by_class = {
        index: [phrase for phrase, right in zip(phrases, row, strict=True) if right]
        for index, row in enumerate(truth)
    }
    write(arguments.output, "photos", phrases, [{"file": file} for file in files], by_class)

    with (shared / "caltech" / "labels.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])[::CALTECH_STEP]
    entries = [
        {
            "file": str(shared / "caltech" / row["file"]),
            "phrases": [row["category"].replace("_", " ").lower()],
        }
        for row in rows
    ]
    categories = sorted({entry["phrases"][0] for entry in entries})
    write(arguments.output, "caltech", categories, entries, {})


def write(folder, name, phrases, entries, by_class):
    (folder / f"{name}.txt").write_text("\n".join(phrases) + "\n")
    content = {"images": entries, "class_phrases": by_class}
    (folder / f"{name}.json").write_text(json.dumps(content) + "\n")
    print(f"{folder / name}.json: {len(entries)} images, {len(phrases)} phrases")


if __name__ == "__main__":
    main()

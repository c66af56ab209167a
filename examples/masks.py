"""Turn explanations of the two most probable classes into masks, boxes and COCO run lengths.

textcam serve
python examples/masks.py cat-and-dog.jpg --output masks/
"""

import argparse
import json
from pathlib import Path

from textcam_client import (
    Client,
    TopK,
    bounding_boxes,
    draw_contours,
    encode_rle,
    label_image,
    pseudo_labels,
)


def main() -> None:
    """Write labels.png, contours.png and regions.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--output", type=Path, default=Path("masks"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    with Client(arguments.server, timeout=30) as client:
        result = client.explain(arguments.image, target=TopK(2))

    # 0 is background; 1 and 2 are the targets, each pixel of one of them at most.
    labels = pseudo_labels(result.explanations)
    label_image(labels).save(arguments.output / "labels.png")
    draw_contours(arguments.image, labels, fill=0.2).save(arguments.output / "contours.png")

    regions = []
    for label, explanation in enumerate(result.explanations, start=1):
        mask = labels == label
        run_lengths = encode_rle(mask)
        regions.append(
            {
                "class": explanation.target.class_name,
                "pixels": int(mask.sum()),
                "boxes": [list(box) for box in bounding_boxes(mask)],
                "segmentation": run_lengths,
            }
        )
    (arguments.output / "regions.json").write_text(json.dumps(regions, indent=1) + "\n")
    for region in regions:
        print(f"{region['class']}: {region['pixels']} pixels, {len(region['boxes'])} boxes")


if __name__ == "__main__":
    main()

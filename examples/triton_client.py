"""Explain images with NVIDIA's tritonclient, over the Open Inference Protocol v2.

pip install 'tritonclient[grpc]'
textcam serve
python examples/triton_client.py cat.jpg dog.jpg
"""

import argparse
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def main() -> None:
    """Send all images as one batch and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--model", default="photos")
    arguments = parser.parse_args()

    client = triton.InferenceServerClient(arguments.server)
    # The bytes of the files. The input `pixels` takes UINT8 arrays of shape (N, h, w, 3) instead.
    files = np.array([path.read_bytes() for path in arguments.images], dtype=object)
    image = triton.InferInput("image", [len(files)], "BYTES")
    image.set_data_from_numpy(files)
    wanted = ["class_name", "phrases", "phrase_probabilities", "saliency_map"]
    outputs = [triton.InferRequestedOutput(name) for name in wanted]
    answer = client.infer(
        arguments.model, [image], outputs=outputs, parameters={"max_phrases": 3}, client_timeout=30
    )
    names, phrases, probabilities, maps = (answer.as_numpy(name) for name in wanted)

    for path, name, texts, chances, saliency_map in zip(
        arguments.images, names, phrases, probabilities, maps, strict=True
    ):
        # If an image has fewer phrases than requested, the last ones are empty.
        pairs = zip(texts, chances, strict=True)
        said = [f"{text.decode()} ({chance:.0%})" for text, chance in pairs if text]
        row, column = np.unravel_index(saliency_map.argmax(), saliency_map.shape)
        print(f"{path.name}: {name.decode()}; {', '.join(said) or 'no phrase'}")
        print(f"  strongest in cell ({row}, {column}) of {saliency_map.shape}")


if __name__ == "__main__":
    main()

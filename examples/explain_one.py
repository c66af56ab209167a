"""Explain one image: print the sentence and the phrases, save a picture.

textcam serve
python examples/explain_one.py cat.jpg --output cat-explained.png
"""

import argparse

from textcam_client import Client, draw_figure


def main() -> None:
    """Explain the image that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--output", default="explained.png")
    arguments = parser.parse_args()

    with Client(arguments.server, timeout=30) as client:
        result = client.explain(arguments.image)

    print(result.sentence)
    for phrase in result.phrases:
        # A bank without calibration gives no probabilities.
        chance = "" if phrase.probability is None else f"{phrase.probability:.0%} likely, "
        print(f"  {phrase.text}: {chance}{phrase.evidence:+.2f} of the logit {result.logit:.2f}")
    draw_figure(result).save(arguments.output)


if __name__ == "__main__":
    main()

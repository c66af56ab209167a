"""Evaluation of explanations against known truth: `textcam evaluate`."""

"""Is a rationale right? Explanations judged by truth: `textcam evaluate`."""

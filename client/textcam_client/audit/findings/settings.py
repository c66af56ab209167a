"""Settings of an audit's statistics."""

from __future__ import annotations

from dataclasses import dataclass

from textcam_client.audit.statistics.maximum import Plan


@dataclass(frozen=True)
class FindingSettings:
    """Limits that decide what is a finding.

    Attributes:
        level: Chance that an audit of a model without spurious cues shows one or more; also of
            each interval.
        permutations: Permutations of the maximum test; the smallest p is 1 / (permutations + 1).
        seed: Seed of permutations and resamples.
        least_effect: Effect that matters, logits: a difference is tested against it, not 0.
        least_images: Images that each side of a comparison needs in each half of the data.
        alike: Correlation of evidence, within the class, from which on two concepts are one.
        inside_bound: A concept lies elsewhere if the share of its map inside the object is below
            this part of that of the class's other concepts.
        present: Evidence in logits from which on a concept counts as present.
        concepts_per_class: Number of concepts in a class's summary.
        example_count: Images of a finding, and of a concept's summary.
        slice_values: A slice column with more values is not compared: it is a name, no slice.
    """

    level: float = 0.05
    permutations: int = 2000
    seed: int = 0
    least_effect: float = 0.25
    least_images: int = 5
    alike: float = 0.8
    inside_bound: float = 0.5
    present: float = 0.1
    concepts_per_class: int = 20
    example_count: int = 12
    slice_values: int = 24

    def plan(self, tests: int) -> Plan:
        """Return the plan of one of several tests that share the level equally."""
        return Plan(self.permutations, self.seed, self.level / tests)

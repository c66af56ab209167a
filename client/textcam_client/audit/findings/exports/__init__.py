"""Findings for other programs: JSON, SARIF and JUnit XML."""

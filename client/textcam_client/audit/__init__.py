"""Audits: from a model and a data set to findings with an error rate."""

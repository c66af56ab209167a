"""Rendered world with known truth, in the spirit of CLEVR (Johnson et al. 2017)."""

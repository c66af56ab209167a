"""A rendered world whose truth is known, in the spirit of CLEVR (Johnson et al. 2017)."""

"""Summary of an audit with hostile names, for exports."""

import numpy as np
from audit_tables import cue_table
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.summary import summarise

HOSTILE = 'gr<a>ss ]]>"&\x00\x1b é'


def hostile_summary():
    """A cue that is named like an attack."""
    table = cue_table(np.random.default_rng(0), names=("fur", HOSTILE, "sky"))
    return summarise(table, settings=FindingSettings(permutations=1999))


def row_ids(summary):
    images = {index for finding in summary.findings for index in finding.images}
    return {index: f"cow/imäge #{index} 100%.png" for index in images}

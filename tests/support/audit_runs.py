"""Small data sets and runs of audits, for tests."""

import numpy as np
from PIL import Image
from textcam_client.audit.concluding import conclude
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.run.runner import run_audit
from textcam_client.audit.run.settings import AuditSettings


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8))


def plant(root, count, names=("tabby cat", "daisy")):
    """Write `count` random images below folders of the names, by turns."""
    for index in range(count):
        folder = root / names[index % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        picture(index).save(folder / f"{index:04d}.png")
    return root


def audited(client, data, output, progress=None, **settings):
    settings = {"segment_rows": 10, "patience_s": 20.0, **settings}
    data = open_data_set(str(data)) if not hasattr(data, "rows") else data
    return run_audit(client, data, output, AuditSettings(**settings), progress)


def contents(folder):
    """Return the bytes of every file of a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def conclude_often(folder, seed, done):
    """Conclude in a folder, in a process of its own; tell `done` of each time that it may."""
    for _ in range(6):
        try:
            conclude(folder, settings=FindingSettings(permutations=20, seed=seed))
            done.put(seed)
        except OutputRefused as error:
            if "another process audits into" not in str(error):
                raise

"""Records and descriptions of audits, for tests."""

import hashlib

import numpy as np
from textcam_client.audit.records.conversion import row_of
from textcam_client.audit.records.description import (
    DataDescription,
    Description,
    ModelDescription,
)
from textcam_client.audit.records.record import PhraseRecord, Record, TargetRecord

CLASSES = ("cat", "dog", "owl")
VOCABULARY = ("fur", "snow", "beak", "sky")
# Channels 0 and 1 stand for fur, 2 for the beak, 3 for nothing, 4 for snow.
CHANNEL_PHRASES = (0, 0, 2, -1, 1)


def description(rows=3, slices=("light",), masks=True, **model):
    values = {
        "name": "fake",
        "version": "1",
        "backbone_digest": "sha256:b",
        "bank_digest": "sha256:k",
        "vocabulary_digest": "sha256:v",
        "architecture": "net",
        "target_layer": "pool",
        "class_names": CLASSES,
        "vocabulary": VOCABULARY,
        "channel_phrases": CHANNEL_PHRASES,
        **model,
    }
    return Description(
        DataDescription("data", rows, "sha256:d", masks, slices),
        ModelDescription(**values),
        {"floor": 0.001},
        [{"decoder": "pillow/PNG"}],
    )


def digest(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def target(class_index, reference=None, channels=(0, 2), values=(1.5, -0.25)):
    return TargetRecord(
        class_index=class_index,
        reference_index=reference,
        logit=2.0,
        bias=0.25,
        gap=0.0,
        in_logit_units=True,
        phrases=[
            PhraseRecord("fur", 0, "texture", 0.75, 1.5, 1.25, 0.0),
            PhraseRecord("sky", 3, "", None, -0.25, 0.5, None),
        ],
        rest_evidence=0.5,
        channel_ids=np.array(channels, np.int32),
        channel_evidence=np.array(values, np.float32),
    )


def record(index, label=0, predicted=0, **changes):
    wrong = label >= 0 and label != predicted
    values = {
        "index": index,
        "row_id": f"row-{index}",
        "path": f"/data/row-{index}",
        "content_digest": digest(f"content {index}"),
        "label": CLASSES[label] if label >= 0 else None,
        "label_index": label if label >= 0 else None,
        "slices": {"light": "day" if index % 2 else "night"},
        "predictions": [(predicted, 0.5, 2.0), ((predicted + 1) % 3, 0.25, 1.0)],
        "target": target(label if label >= 0 else predicted),
        "error": target(predicted, label) if wrong else None,
        "digests": {"pixels": "sha256:p", "activations": "sha256:a", "evidence": "sha256:e"},
        **changes,
    }
    return Record(**values)


def failed(index, **changes):
    values = {
        "label": None,
        "label_index": None,
        "slices": {"light": ""},
        "failure": "cannot read the image",
        "failure_reason": "IMAGE_UNREADABLE",
        **changes,
    }
    return Record(index, f"row-{index}", f"/data/row-{index}", "", **values)


def work_rows(records):
    return [
        {**row_of(one, CLASSES), "share_key": one.index, "thumbnail": one.thumbnail}
        for one in records
    ]

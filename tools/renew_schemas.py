"""Write the JSON schemas of the custom kinds that the manifests use.

They come from models that were generated from the operators' own definitions. Those models need
packages that nothing else here needs, so they get a separate environment:

    python -m venv build/schemas
    build/schemas/bin/pip install cloudcoil.models.keda==2.16.1.0 \
        cloudcoil.models.prometheus_operator==0.80.1.0
    build/schemas/bin/python tools/renew_schemas.py
"""

import json
from pathlib import Path
from typing import Any

from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

SCHEMAS = Path(__file__).parents[1] / "deploy" / "schemas"


def strict(schema: Any) -> Any:
    """Refuse fields that the schema does not name; drop what does not check anything."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        # Under `properties` the keys are fields, which may be called "title" themselves.
        key: {name: strict(field) for name, field in value.items()}
        if key in ("properties", "$defs")
        else strict(value)
        for key, value in schema.items()
        if key not in ("title", "description", "default")
    }
    if kept.get("properties"):
        kept.setdefault("additionalProperties", False)
    return kept


if __name__ == "__main__":
    for kind in (PrometheusRule, ScaledObject, ServiceMonitor):
        path = SCHEMAS / f"{kind.__name__.lower()}.json"
        path.write_text(json.dumps(strict(kind.model_json_schema(by_alias=True)), indent=1) + "\n")

"""grad-cam in BentoML: bentoml serve bentoml_app:Explain."""

import base64

import bentoml
from explainer import Explainer, max_batch


@bentoml.service(workers=1, traffic={"timeout": 60})
class Explain:
    """{"images": [base64, ...]} -> [{"class_index", "saliency_map"}, ...].

    BentoML gathers the images of several requests into one call. It decides by itself how long to
    wait for company; only the batch's size is set.
    """

    def __init__(self) -> None:
        self.explainer = Explainer()

    @bentoml.api(batchable=True, max_batch_size=max_batch())
    def explain(self, images: list[str]) -> list[dict]:
        inputs = [self.explainer.decode(base64.b64decode(image)) for image in images]
        classes, maps = self.explainer.explain(inputs)
        return [
            {"class_index": index, "saliency_map": saliency_map}
            for index, saliency_map in zip(classes, maps.tolist(), strict=True)
        ]

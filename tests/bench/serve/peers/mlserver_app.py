"""grad-cam in MLServer: a model whose settings name mlserver_app.Explain."""

import numpy as np
from explainer import Explainer
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Explain(MLModel):
    """BYTES [N, 1] -> class_index [N, 1], saliency_map [N, 7, 7]; MLServer gathers the batches."""

    async def load(self) -> bool:
        self.explainer = Explainer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        jpegs = Base64Codec.decode_input(payload.inputs[0])
        classes, maps = self.explainer.explain([self.explainer.decode(jpeg) for jpeg in jpegs])
        outputs = [
            NumpyCodec.encode_output("class_index", np.asarray(classes)[:, None]),
            NumpyCodec.encode_output("saliency_map", maps),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)

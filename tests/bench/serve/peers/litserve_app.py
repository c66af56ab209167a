"""grad-cam in LitServe: python litserve_app.py PORT."""

import base64
import sys

import litserve
from explainer import Explainer, max_batch, max_delay_s


class Explain(litserve.LitAPI):
    """{"image": base64} -> {"class_index", "saliency_map"}; LitServe gathers the batches."""

    def setup(self, device):
        self.explainer = Explainer()

    def decode_request(self, request):
        return self.explainer.decode(base64.b64decode(request["image"]))

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        classes, maps = self.explainer.explain(inputs)
        return list(zip(classes, maps.tolist(), strict=True))

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"class_index": output[0], "saliency_map": output[1]}


if __name__ == "__main__":
    api = Explain(max_batch_size=max_batch(), batch_timeout=max_delay_s())
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)

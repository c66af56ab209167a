"""A backbone's output for one image."""

import numpy as np
from textcam_service.runtime.output import BackboneOutput


def test_further_layers_are_the_numbered_outputs_in_order():
    first, second, other = (np.full((1, 2, 2), value, np.float32) for value in range(3))
    further = {"layer_0": first, "vertex_positions": other, "layer_1": second}
    output = BackboneOutput(np.zeros(2, np.float32), first, further)
    assert output.layers == (first, second)

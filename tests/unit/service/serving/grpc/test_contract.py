"""Names of services and methods."""

from textcam_service.serving.grpc.contract import (
    EXPLAINER,
    GRANTABLE_METHODS,
    METHOD_NAMES,
    OPEN_INFERENCE,
)


def test_methods_of_both_contracts_have_full_names_and_no_two_share_one():
    assert METHOD_NAMES["Explain"] == f"{EXPLAINER}/Explain"
    assert METHOD_NAMES["ModelInfer"] == f"{OPEN_INFERENCE}/ModelInfer"
    assert set(GRANTABLE_METHODS) - set(METHOD_NAMES) == {"ServerReflectionInfo"}

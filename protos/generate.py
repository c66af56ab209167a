"""Regenerate the Python stubs of the contracts: `python protos/generate.py [OUTPUT_DIR]`."""

import sys
from importlib.metadata import files
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).parent
CONTRACTS = ("textcam/v1/explainer.proto", "textcam/oip/open_inference.proto")


def generate(output: Path) -> None:
    """Write *_pb2.py, .pyi and _grpc.py under `output`/textcam, beside each contract.

    Raises:
        RuntimeError: protoc refused the contract.
    """
    # google/rpc/status.proto ships inside googleapis-common-protos.
    googleapis = next(
        path.locate()
        for path in files("googleapis-common-protos") or []
        if path.as_posix() == "google/rpc/status.proto"
    )
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    includes = (PROTO_ROOT, Path(str(googleapis)).parents[2], well_known)
    code = protoc.main(
        [
            "protoc",
            *(f"-I{path}" for path in includes),
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--grpc_python_out={output}",
            *(str(PROTO_ROOT / contract) for contract in CONTRACTS),
        ]
    )
    if code:
        raise RuntimeError(f"protoc exited with status {code}; its message stands above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO_ROOT)

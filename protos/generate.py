"""Generate files from the contracts.

python protos/generate.py [OUTPUT_DIR]   the Python stubs
python protos/generate.py --released     released.binpb, at releases: the contracts of released
                                         clients, which later contracts must not break
"""

import sys
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).parent
CONTRACTS = (
    "textcam/v1/types.proto",
    "textcam/v1/explainer.proto",
    "textcam/oip/open_inference.proto",
)
WITHOUT_SERVICES = ("textcam/v1/types.proto",)
RELEASED = PROTO_ROOT / "released.binpb"


def generate(output: Path) -> None:
    """Write *_pb2.py and .pyi, and _grpc.py for services, in each contract's folder below `output`.

    Raises:
        RuntimeError: protoc rejected a contract.
    """
    _protoc(CONTRACTS, f"--python_out={output}", f"--pyi_out={output}")
    services = [contract for contract in CONTRACTS if contract not in WITHOUT_SERVICES]
    _protoc(services, f"--grpc_python_out={output}")


def describe(output: Path, *, comments: bool = False) -> None:
    """Write the contracts and their imports as a FileDescriptorSet, for buf.

    Raises:
        RuntimeError: protoc rejected a contract.
    """
    source = ["--include_source_info"] if comments else []
    _protoc(CONTRACTS, "--include_imports", *source, f"--descriptor_set_out={output}")


def _protoc(contracts: Sequence[str], *outputs: str) -> None:
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
            *outputs,
            *(str(PROTO_ROOT / contract) for contract in contracts),
        ]
    )
    if code:
        raise RuntimeError(f"protoc exited with status {code}; see its message above")


if __name__ == "__main__":
    if sys.argv[1:] == ["--released"]:
        describe(RELEASED)
    else:
        generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO_ROOT)

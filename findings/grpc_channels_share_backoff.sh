#!/usr/bin/env bash
# grpcio 1.85.3, grpcio-health-checking 1.85.1
#
# One would guess: a channel that is made now tries to connect now, whatever other channels did.
# Seen: channels of one process with the same address and options share their connection, and with
# it the pause after attempts that failed. A server has started; a new channel's first call fails
# at once with "Connection refused" all the same, while an older channel to it still pauses. With
# the option grpc.use_local_subchannel_pool it is answered.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    "grpcio==1.85.3" "grpcio-health-checking==1.85.1" 2>/dev/null
cat >"$work/try.py" <<'PY'
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

options = [("grpc.initial_reconnect_backoff_ms", 20000), ("grpc.min_reconnect_backoff_ms", 20000)]
options += [("grpc.use_local_subchannel_pool", 1)] if "own" in sys.argv else []
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % free.getsockname()[1]


def asked(channel):
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError as error:
        return error.code().name
    return "answered"


older = grpc.insecure_channel(address, options)
asked(older)
server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
server.add_insecure_port(address)
server.start()
time.sleep(1)
print(asked(grpc.insecure_channel(address, options)))
PY
shared=$("$work/venv/bin/python" "$work/try.py")
own=$("$work/venv/bin/python" "$work/try.py" own)
echo "a new channel, the server being up: $shared; with a pool of its own: $own"
[[ $shared == UNAVAILABLE && $own == answered ]]

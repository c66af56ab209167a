#!/usr/bin/env bash
# grpcio-health-checking 1.85 (pinned: 1.84.2 and 1.85.1, grpcio 1.85.1)
#
# One would guess: a health servicer of one's own, with the methods Check and Watch, goes on working
# when the health contract gains a third method; gRPC answers UNIMPLEMENTED for it, as for any method
# that a server does not register.
# Seen: from 1.85 on, which adds List, the generated add_HealthServicer_to_server reads every method
# of the contract from the servicer at once. A servicer that does not inherit from the generated class
# cannot be registered at all (AttributeError), so a server that ran with 1.84 ends at its start.
# One that inherits from it can, and answers UNIMPLEMENTED.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/register.py" <<'PY'
from concurrent import futures

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as stubs


class Own:
    def Check(self, request, context):
        return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)

    def Watch(self, request, context):
        yield pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)


class Inherited(Own, stubs.HealthServicer):
    pass


def registers(servicer):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    try:
        stubs.add_HealthServicer_to_server(servicer, server)
    except AttributeError as error:
        return f"refused ({error})"
    return "registered"


print("own:", registers(Own()))
print("inherited:", registers(Inherited()))
PY

seen() { # VERSION
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install --quiet --disable-pip-version-check \
        "grpcio==1.85.1" "grpcio-health-checking==$1" 2>/dev/null
    "$work/$1/bin/python" "$work/register.py"
}

before=$(seen 1.84.2)
after=$(seen 1.85.1)
echo "1.84.2: ${before//$'\n'/; }"
echo "1.85.1: ${after//$'\n'/; }"
[[ $before == $'own: registered\ninherited: registered' ]]
[[ $after == $'own: refused ('*"'List')"$'\ninherited: registered' ]]

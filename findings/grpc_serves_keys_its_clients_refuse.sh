#!/usr/bin/env bash
# grpcio 1.80.0, cryptography 46.0.3
#
# One would guess: a server that accepts a private key and its certificate, binds its port and starts
# without an error can be reached by a client of the same library that trusts the certificate.
# Seen: with an Ed25519 or a P-521 key the server starts as with any other, and no client of grpcio
# connects; with RSA and P-256 each does. So a renewal to such a key takes a service down without a
# line in its log. The client's error speaks of the handshake, not of the key.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/serve.py" <<'PY'
import datetime
import ipaddress
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KEYS = {
    "RSA": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def certificate(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


for name, key in KEYS.items():
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = certificate(key)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, chain)]))
    server.start()
    trusted = grpc.ssl_channel_credentials(chain)
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
            reached = "reached"
        except grpc.FutureTimeoutError:
            reached = "not reached"
    print(f"{name}: started {port > 0}, {reached}")
    server.stop(None)
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    "grpcio==1.80.0" "cryptography==46.0.3" 2>/dev/null
seen=$(env -u http_proxy -u https_proxy "$work/env/bin/python" "$work/serve.py" 2>/dev/null)
echo "$seen"
[[ $seen == $'RSA: started True, reached\nP-256: started True, reached\nP-521: started True, not reached\nEd25519: started True, not reached' ]]

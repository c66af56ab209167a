"""TLS, mutual TLS, certificates renewed while the server runs, and health beside them."""

import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import grpc
import pytest
from authority import Authority
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import BACKBONE, TEXTCAM, running
from textcam_client import Client, Retry, Unavailable


def tls_flags(folder):
    pair = ["--tls-certificate", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")]
    authority = folder / "ca.crt"
    return [*pair, *(["--tls-client-ca", str(authority)] if authority.is_file() else [])]


def served_certificate(address):
    """What the server shows in a handshake, PEM."""
    host, port = address.split(":")
    context = ssl._create_unverified_context()
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True))


def until_served(address, pair, seconds=20):
    end = time.monotonic() + seconds
    while served_certificate(address) != pair.certificate.decode():
        assert time.monotonic() < end, "the renewed certificate is not served"
        time.sleep(0.1)


def counted(running, metric):
    with urllib.request.urlopen(running.metrics) as page:
        found = re.search(rf"^{re.escape(metric)} ([0-9.e+]+)$", page.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def authority():
    return Authority("test authority")


@pytest.fixture
def renewable(backbone_folder, authority, tmp_path):
    """A server with TLS, whose files the test may change."""
    authority.pair("server").write(tmp_path)
    with running(*tls_flags(tmp_path)) as started:
        yield started


@pytest.fixture(scope="module")
def mutual(backbone_folder, authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority.pair("server").write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    with running(*tls_flags(folder), "--health-port", "0") as started:
        yield started


def test_mutual_tls_answers_who_has_a_certificate_of_the_authority_and_no_other(
    mutual, authority, photos
):
    with Client(mutual.address, tls=authority.tls(authority.pair("caller"))) as client:
        assert client.explain(photos[0]).predictions
    stranger = Authority("another").pair("caller")
    expired = authority.pair("caller", days=-1)
    for tls in (authority.tls(stranger), authority.tls(expired), authority.tls(), None):
        with (
            Client(mutual.address, tls=tls, retry=None) as client,
            pytest.raises(Unavailable),
        ):
            client.models()


def test_a_server_of_another_authority_is_refused_by_the_client(mutual, authority):
    caller = authority.pair("caller")
    with (
        Client(mutual.address, tls=Authority("another").tls(caller), retry=None) as client,
        pytest.raises(Unavailable),
    ):
        client.models()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_is_spoken_from_1_2_on(renewable):
    host, port = renewable.address.split(":")

    def spoken(version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            return wrapped.version()

    assert spoken(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert spoken(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        spoken(ssl.TLSVersion.TLSv1_1)


def test_a_certificate_renewed_under_load_is_served_and_no_call_is_lost(
    renewable, authority, photos, tmp_path
):
    """Some callers keep their connection, others make one per call; none may try twice."""
    stop, answered, faults = threading.Event(), [], []

    def call(fresh):
        client = Client(renewable.address, tls=authority.tls(), retry=Retry(attempts=1))
        while not stop.is_set():
            try:
                answered.append(client.explain(photos[2], timeout=60).predictions[0].class_name)
            except Exception as fault:  # noqa: BLE001 - counted, whatever it is
                faults.append(fault)
            if fresh:
                client.close()
                client = Client(renewable.address, tls=authority.tls(), retry=Retry(attempts=1))
        client.close()

    threads = [threading.Thread(target=call, args=(fresh,)) for fresh in (False, True)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        pair = authority.pair("server")
        pair.write(tmp_path)
        until_served(renewable.address, pair)
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set(answered)) == 1
    assert counted(renewable, 'textcam_reloads_total{outcome="read",what="TLS certificate"}') >= 3


def test_a_broken_renewal_leaves_the_old_certificate_and_is_told_of(renewable, authority, tmp_path):
    """Cut short, of another key, expired or gone: each is refused; a whole one then serves."""
    before = served_certificate(renewable.address)
    other, expired = authority.pair("server"), authority.pair("server", days=-1)
    kept = 'textcam_reloads_total{outcome="kept",what="TLS certificate"}'
    stale = 'textcam_reload_stale{what="TLS certificate"}'
    for certificate, key in [
        (other.certificate[:200], other.key),
        (other.certificate, other.key[:100]),
        (other.certificate, expired.key),
        (expired.certificate, expired.key),
        (None, other.key),
    ]:
        failures = counted(renewable, kept)
        (tmp_path / "tls.key").write_bytes(key)
        path = tmp_path / "tls.crt"
        path.unlink() if certificate is None else path.write_bytes(certificate)
        end = time.monotonic() + 20
        while counted(renewable, kept) == failures:
            assert served_certificate(renewable.address) == before
            assert time.monotonic() < end, "nobody was told"
            time.sleep(0.2)
        with Client(renewable.address, tls=authority.tls()) as client:
            assert client.models()
    assert counted(renewable, stale) == 1
    other.write(tmp_path)
    until_served(renewable.address, other)
    assert counted(renewable, stale) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_metrics_say_when_the_served_certificate_expires(
    workers, backbone_folder, authority, tmp_path
):
    """Of the whole chain the first; also of one that is renewed where nobody connects."""
    metric = "textcam_tls_certificate_expiry_timestamp_seconds"

    def expiry(pem):
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()

    def until(expected):
        end = time.monotonic() + 20
        while counted(started, metric) != expected:
            assert time.monotonic() < end, (counted(started, metric), expected)
            time.sleep(0.2)

    first, second, issuer = (authority.pair("server", days=days) for days in (30, 60, 9))
    first.write(tmp_path)
    with running(*tls_flags(tmp_path), "--workers", workers) as started:
        until(expiry(first.certificate))
        second.write(tmp_path)
        until(expiry(second.certificate))
        with (tmp_path / "tls.crt").open("ab") as chain:
            chain.write(issuer.certificate)
        until(expiry(issuer.certificate))
        (tmp_path / "tls.key").write_bytes(b"broken")
        time.sleep(6)
        assert counted(started, metric) == expiry(issuer.certificate), "what is served still"


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "tls.crt").unlink(), "No such file"),
        (lambda folder: (folder / "tls.crt").write_text("x"), "tls_certificate is not a PEM"),
        (lambda folder: (folder / "tls.key").write_text("x"), "tls_key is not a PEM private key"),
        (
            lambda folder: (folder / "tls.key").write_bytes(Authority("b").pair("s").key),
            "tls_key does not belong to tls_certificate",
        ),
        (lambda folder: Authority("b").pair("s", days=-1).write(folder), "expired on"),
        (lambda folder: (folder / "ca.crt").write_text("x"), "tls_client_ca is not a PEM"),
    ],
)
def test_a_server_whose_files_are_broken_does_not_start_and_says_why(
    break_it, said, authority, tmp_path
):
    authority.pair("server").write(tmp_path)
    break_it(tmp_path)
    command = [TEXTCAM, "serve", "--port", "0", "--backbone", str(BACKBONE)]
    ended = subprocess.run(
        [*command, *tls_flags(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def health_of(address):
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_the_health_port_answers_in_plaintext_and_has_nothing_else(mutual):
    assert health_of(mutual.health) == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(mutual.health) as channel:
        for path in (
            "/textcam.v1.ExplainerService/ListModels",
            "/inference.GRPCInferenceService/ServerLive",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_several_processes_share_certificates_and_the_health_port(
    backbone_folder, authority, photos, tmp_path
):
    authority.pair("server").write(tmp_path)
    with running(*tls_flags(tmp_path), "--health-port", "0", "--workers", "2") as started:
        assert health_of(started.health) == health_pb2.HealthCheckResponse.SERVING
        for _ in range(4):
            with Client(started.address, tls=authority.tls(), timeout=60) as client:
                assert client.explain(photos[2]).predictions

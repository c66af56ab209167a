"""What the log leaves out."""

import json
import logging

import pytest
from grpc._cython import cygrpc
from textcam_service.serving.telemetry.logs import AccessLog, set_up_logs
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings


@pytest.mark.parametrize(
    ("error", "told"), [(cygrpc.ExecuteBatchError("the call is over"), 0), (ValueError("ours"), 1)]
)
def test_an_answer_that_came_as_its_caller_left_is_no_error(caplog, error, told):
    set_up_logs(ServerSettings())
    log = logging.getLogger("grpc._cython.cygrpc")
    log.error("raised by servicer method", exc_info=error)
    log.error("without one")
    assert [record.exc_info is None for record in caplog.records] == [False] * told + [True]


@pytest.fixture
def lines(monkeypatch, capsys):
    """Log by `settings` and return the lines written since."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)

    def written(settings, log):
        root.handlers.clear()
        set_up_logs(settings)
        log()
        return capsys.readouterr().err.splitlines()

    return written


def test_a_request_is_one_json_line_without_the_fields_that_it_lacks(lines):
    settings = ServerSettings(log_format="json")
    record = RequestRecord("Explain", "id-1", 10, "caller a", code="OK", model="m")
    record.stages["decode"] = (0.0, 0.25)
    (line,) = lines(settings, lambda: AccessLog(settings).write(record))
    fields = json.loads(line)
    assert (fields["method"], fields["code"], fields["caller"]) == ("Explain", "OK", "caller a")
    assert (fields["stage_seconds"], fields["message"]) == ({"decode": 0.25}, "Explain OK")
    assert not {"reason", "trace_id", "batch_size", "lane"} & set(fields)


def test_a_text_log_has_no_line_per_request(lines):
    settings = ServerSettings()
    assert lines(settings, lambda: AccessLog(settings).write(RequestRecord("Explain"))) == []


def test_a_json_line_holds_the_traceback(lines):
    def fail():
        try:
            raise ValueError("in\ntwo lines")
        except ValueError:
            logging.getLogger("x").exception("failed")

    (line,) = lines(ServerSettings(log_format="json"), fail)
    assert "two lines" in json.loads(line)["exception"]

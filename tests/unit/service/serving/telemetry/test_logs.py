"""What the log leaves out."""

import logging

import pytest
from grpc._cython import cygrpc
from textcam_service.serving.telemetry.logs import set_up_logs
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

"""Progress of a run."""

from textcam_client.audit.run.progress import Bar, Silent


def test_the_bar_shows_rows_of_earlier_runs_too(capsys):
    bar = Bar()
    bar.start(10, 4)
    bar.advance(6)
    bar.note("the server is away")
    bar.close()
    bar.close()
    shown = capsys.readouterr()
    assert "10/10" in shown.err
    assert "the server is away" in shown.err
    assert shown.out == ""


def test_silence_is_silent(capsys):
    silent = Silent()
    silent.start(1, 0)
    silent.advance(1)
    silent.note("words")
    silent.close()
    assert capsys.readouterr() == ("", "")

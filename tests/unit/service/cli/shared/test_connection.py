"""Options by which commands reach a server."""

import click
import pytest
from commands import run
from textcam_service.cli.shared.connection import TOKEN, _token


def test_a_token_is_of_the_file_or_else_of_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    assert _token(None) == ""
    monkeypatch.setenv(TOKEN, "of-the-variable ")
    assert _token(None) == "of-the-variable"
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    assert _token(file) == "of-the-file"


@pytest.mark.parametrize("content", ["", "two words", "t\u00f6ken", "a\nb"])
def test_a_file_without_a_token_is_refused_and_not_quoted(tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(click.UsageError, match="holds no token") as refused:
        _token(file)
    assert not content or content not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--certificate", "FILE"], "--certificate and --key go together"),
        (["--ca", "FILE"], "holds no PEM certificate"),
        (["--certificate", "FILE", "--key", "FILE"], "are not a PEM certificate and its private"),
    ],
)
def test_broken_certificates_are_refused_before_any_call(photo, words, said):
    given = [str(photo) if word == "FILE" else word for word in words]
    code, output = run("explain", photo, *given)
    assert (code, said in " ".join(output.replace("│", " ").split())) == (2, True)

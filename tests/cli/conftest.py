"""A way to call the command line, and a small model, for all its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdekit.cli import main
from tests.cli.calls import Result


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """``sdekit ARGUMENTS`` in this process: exit code and what it printed."""

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Result(int(caught.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    with pytest.raises(SystemExit) as caught:
        main(["train", "--out", str(path), "--steps", "3", "--width", "8", "--depth", "1"])
    assert caught.value.code == 0
    return path

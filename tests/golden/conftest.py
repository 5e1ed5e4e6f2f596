"""The option `--update-golden` and the fixture that obeys it."""

import pytest

from tests.golden.golden import Golden


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the expected files of golden cases"
    )


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Golden:
    """Compares, or rewrites with `--update-golden`."""
    # A run from above this folder loads this file too late to know the option.
    return Golden(bool(pytestconfig.getoption("--update-golden", default=False)))

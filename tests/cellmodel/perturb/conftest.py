import pytest

from tests.support import screens


@pytest.fixture(scope="session")
def screen_kb(tmp_path_factory):
    """A store of the simulated screen."""
    return screens.build_store(tmp_path_factory.mktemp("screen"))

"""The human genes of the test data, and stores of them, read and built once a session."""

from functools import cache

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.sources.ncbi_bulk import read_ncbi_folder


@pytest.fixture(scope="session")
def human(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human"])


@pytest.fixture(scope="session")
def human_store(human, tmp_path_factory):
    """Give the store of the human genes with some encoders; tests that share it add nothing to it."""

    @cache
    def opened(*models, **settings):
        config = BuildConfig(name="human", models=models, **settings)
        return genekb.open(build(human, config, home=tmp_path_factory.mktemp("human")).folder)

    return opened

"""MANO's files, as every importer of its parameters reads them."""

import pytest
from published_formats import write_mano


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    pytest.importorskip("smplx")
    return write_mano(tmp_path_factory.mktemp("mano"))

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kk as kk_module  # noqa: E402


@pytest.fixture
def kk():
    """A fresh service with alice and bob."""
    with kk_module.Service() as service:
        yield service


@pytest.fixture(scope="module")
def shared_kk():
    """One service for the tests of a module that leave it as they found it."""
    with kk_module.Service() as service:
        yield service

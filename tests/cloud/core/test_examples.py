import doctest
from types import ModuleType

import pytest

from blixt.cloud.api import sse
from blixt.cloud.money import amounts
from blixt.cloud.registry import metrics


@pytest.mark.parametrize("module", [amounts, metrics, sse])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)

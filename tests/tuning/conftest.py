"""One problem for all tests of tuning: it keeps its compiled runs."""

import pytest
from curve import curve_task

import limjax
from limjax.tuning import Problem


@pytest.fixture(scope="session")
def problem():
    return Problem(curve_task(), limjax.ArrheniusCell(lsb=2.0**-8), steps=36, batch_size=16, learning_rate=2e-2)

"""Cells, their barriers and their laws; knows nothing of training."""

from limjax.physics._abstract_cell import VALID_FROM_BARRIER, AbstractCell
from limjax.physics._asymmetric import AsymmetricCell
from limjax.physics._cell import ArrheniusCell
from limjax.physics._hops import exact_hops, exact_step, gaussian_hops
from limjax.physics._response import Response, cell_response, hop_rates, split_activity

__all__ = [
    "VALID_FROM_BARRIER",
    "AbstractCell",
    "ArrheniusCell",
    "AsymmetricCell",
    "Response",
    "cell_response",
    "exact_hops",
    "exact_step",
    "gaussian_hops",
    "hop_rates",
    "split_activity",
]

"""Data that come with the package, as `examples/make_data.py` made them.

- `digits`: test part of "Optical Recognition of Handwritten Digits", E. Alpaydin & C. Kaynak, UCI Machine Learning Repository (1998),
  doi 10.24432/C50P49, licence CC BY 4.0.
- `diabetes`: 442 patients of B. Efron, T. Hastie, I. Johnstone & R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 407
  (2004), doi 10.1214/009053604000000067.
"""

import functools
import pathlib

import numpy as np


@functools.cache
def shipped(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and test part of one of the data sets.

    Args:
        name: "digits" or "diabetes".

    Returns:
        `(train, test)`, arrays by name.
    """
    with np.load(pathlib.Path(__file__).with_name(f"{name}.npz"), allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    train, test = (
        {key.removeprefix(part): value for key, value in arrays.items() if key.startswith(part)}
        for part in ("train_", "test_")
    )
    return train, test

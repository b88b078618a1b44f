"""Makes the data that the package ships from scikit-learn's copies, with their split: `limjax/tasks/data/*.npz`.

python examples/make_data.py --out limjax/tasks/data
"""

import argparse
import pathlib

import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split


def digits() -> dict[str, np.ndarray]:
    """1,797 images of 8 by 8 pixels from 0 to 16; 80 % to train and 20 % to test, stratified by label."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(
        images.astype(np.uint8), labels.astype(np.uint8), test_size=0.2, random_state=0, stratify=labels
    )
    return dict(zip(("train_image", "test_image", "train_label", "test_label"), map(np.asarray, split)))


def diabetes() -> dict[str, np.ndarray]:
    """442 patients, ten measurements and the progression of the disease, standardised by the training part."""
    split = [
        np.asarray(part) for part in train_test_split(*load_diabetes(return_X_y=True), test_size=0.2, random_state=0)
    ]
    found = {}
    for name, train, test in (("x", *split[:2]), ("y", *split[2:])):
        mean, deviation = train.mean(0), train.std(0)
        found |= {f"train_{name}": (train - mean) / deviation, f"test_{name}": (test - mean) / deviation}
    return {name: value.astype(np.float32) for name, value in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    folder = parser.parse_args().out
    for make in (digits, diabetes):
        np.savez_compressed(folder / f"{make.__name__}.npz", allow_pickle=False, **make())
        print(f"{folder / make.__name__}.npz")

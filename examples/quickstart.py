"""Trains digits on physical memory, prints where the heat went, and looks at single weights."""

import argparse

import jax
import numpy as np

import limjax


def main(steps: int) -> None:
    result = limjax.train("digits-mlp", steps=steps)  # the same as `limjax train`, without the folder
    print(result.report)

    heat = limjax.per_parameter(result.ledger, "heat")  # kT, in the structure of the parameters
    flat = np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(heat)]))[::-1]
    share = flat[: len(flat) // 10].sum() / flat.sum()
    print(
        f"a tenth of the weights dissipated {100 * share:.0f} % of the heat; the median weight {np.median(flat):.3g} kT"
    )

    summary = result.summary
    print(f"test accuracy {summary['test_accuracy']:.3f}, {summary['heat_kt_per_parameter']:.3g} kT per parameter")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    main(parser.parse_args().steps)

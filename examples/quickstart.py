"""Trains digits with the default barrier and prints where the heat went."""

import argparse

import limjax


def main(steps: int) -> None:
    result = limjax.train("digits-mlp", steps=steps, hops="exact", barrier="lyapunov:start=11")
    print(result.report)
    summary = result.summary
    print(f"test accuracy {summary['test_accuracy']:.3f}, {summary['heat_kt_per_parameter']:.3g} kT per parameter")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    main(parser.parse_args().steps)

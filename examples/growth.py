"""How heat per parameter grows with the size of a language model, for two tiny sizes: `limjax scale` in Python.

python examples/growth.py --tokens 2
"""

import argparse
import pathlib
import tempfile

from limjax.limits import fit_growth, measured_limit
from limjax.scaling import ScaleSettings, measure_growth


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=2.0, help="bytes seen for each parameter")
    settings = ScaleSettings(
        sizes=(3e3, 1e4), seeds=1, tokens_per_parameter=parser.parse_args().tokens, barrier="moment:scale=0.03"
    )
    with tempfile.TemporaryDirectory() as folder:
        result = measure_growth(settings, pathlib.Path(folder))
    for run in result.measurements:
        print(
            f"{run['parameters']:,} parameters: loss {run['loss']:.3f} (without memory {run['plain_loss']:.3f}), "
            f"{run['heat_kt_per_parameter']:.3g} kT of heat per parameter, law {run['law_kt_per_parameter']:.3g} kT"
        )
        for kind, numbers in run["kinds"].items():
            print(
                f"  {kind}: {numbers['heat_kt_per_parameter']:.3g} kT, {numbers['effective_updates']:.3g} effective updates"
            )
    limit = measured_limit(result.runs, 1e15)
    print(
        f"Two sizes, so for the arithmetic only: N^{fit_growth(result.runs).exponents['parameters']:.2f}, {limit.joules:.2g} J at 1e15."
    )


if __name__ == "__main__":
    main()

"""Random convolutions: all passes, algorithms and instruction sets, 1 to 3 threads, against the reference.

    python -m tests.fuzz_conv --cases 20000 --seed 0

Integer data must agree to the bit, real data within 4 units in the last place of the sum of magnitudes;
Winograd's algorithm, on the 3 x 3 case nearest to it, within the bound of tests/test_winograd.py. A case that
fails is printed in full; its number and the seed reproduce it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import replace

import numpy as np

from bench.shapes import ConvCase, random_case
from fastcnn import ops, reference
from fastcnn.kernels import _cpu
from tests.check import assert_close, assert_same, small_ints

ALGORITHMS = ("direct", "im2col")
# Errors of Winograd's algorithm, in units in the last place of the largest sum of magnitudes.
WINOGRAD_ULPS = 32


def passes(case: ConvCase, x, w, b, dy, module, **options):
    """(name, result) of the three passes; `module` is fastcnn.ops or fastcnn.reference."""
    words = {**case.keywords, **options}
    yield "conv2d", module.conv2d(x, w, b, **words)
    yield "conv2d_input_grad", module.conv2d_input_grad(dy, w, case.input_shape, **words)
    yield "conv2d_weight_grad", module.conv2d_weight_grad(x, dy, (case.kh, case.kw), **words)


def reduction(case: ConvCase) -> dict[str, int]:
    """How many products one output of each pass sums."""
    taps, groups = case.kh * case.kw, case.groups
    return {
        "conv2d": taps * case.ic // groups + 1,
        "conv2d_input_grad": taps * case.oc // groups,
        "conv2d_weight_grad": max(1, case.n * case.output_shape[1] * case.output_shape[2]),
    }


def check_case(case: ConvCase, rng: np.random.Generator, isas, algorithms=ALGORITHMS) -> int:
    """Check one case on integer and on real data; the number of results compared."""
    shapes = case.input_shape, case.weight_shape, (case.oc,), case.output_shape
    exact = [small_ints(rng, shape) for shape in shapes]
    real = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    want_exact = dict(passes(case, *exact, reference))
    want_real = dict(passes(case, *real, reference))
    scale = dict(passes(case, *(np.abs(a) for a in real), reference))
    terms, compared = reduction(case), 0
    for isa, algorithm in itertools.product(isas, algorithms):
        _cpu.select_isa(isa)
        for name, got in passes(case, *exact, ops, algorithm=algorithm):
            assert_same(got, want_exact[name])
        for name, got in passes(case, *real, ops, algorithm=algorithm):
            assert_close(got, want_real[name], terms[name], scale=scale[name])
            compared += 2
    return compared + check_winograd(winograd_case(case), rng, isas)


def winograd_case(case: ConvCase) -> ConvCase:
    """The nearest case that Winograd's algorithm can serve."""
    return replace(case, ih=max(3, case.ih), iw=max(3, case.iw), kh=3, kw=3, strides=(1, 1), dilation=(1, 1), groups=1)


def check_winograd(case: ConvCase, rng: np.random.Generator, isas) -> int:
    """Check Winograd's algorithm on real data; the number of results compared."""
    shapes = case.input_shape, case.weight_shape, (case.oc,), case.output_shape
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    want = dict(passes(case, *arrays, reference))
    scale = dict(passes(case, *(np.abs(a) for a in arrays), reference))
    for isa in isas:
        _cpu.select_isa(isa)
        for name, got in passes(case, *arrays, ops, algorithm="winograd"):
            assert_close(got, want[name], 1, WINOGRAD_ULPS, np.max(scale[name], initial=0.0))
    return 3 * len(isas)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first case: to repeat one that failed"
    )
    options = parser.parse_args(argv)
    start, compared, usual, threads = time.perf_counter(), 0, _cpu.isa(), _cpu.get_num_threads()
    isas = _cpu.isas()
    for number in range(options.first, options.first + options.cases):
        rng = np.random.default_rng([options.seed, number])
        case = random_case(rng)
        _cpu.set_num_threads(1 + number % 3)
        try:
            compared += check_case(case, rng, isas)
        except Exception as error:
            print(
                f"case {number} of seed {options.seed} fails on {_cpu.isa()}, "
                f"{_cpu.get_num_threads()} threads: {case}\n{error}",
                file=sys.stderr,
            )
            raise
        finally:
            _cpu.select_isa(usual)
            _cpu.set_num_threads(threads)
    print(
        f"{options.cases} cases, {compared} results on {', '.join(isas)} agree with the reference; "
        f"{time.perf_counter() - start:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

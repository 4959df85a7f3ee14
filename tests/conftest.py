"""Fixtures of all tests: every usable instruction set, several thread counts, panel sizes, a seeded generator."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest

from fastcnn import arrays, random
from fastcnn.kernels import _cpu, _panels
from fastcnn.plan import plan
from tests.check import poison

plan.SERIAL_WORK = 0  # the networks of the tests are small, and should still run on all threads


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """What kernels are to write in full holds NaN before."""
    allocate = arrays._aligned
    monkeypatch.setattr(arrays, "_aligned", lambda make, shape: (
        poison(allocate(make, shape)) if make is np.empty else allocate(make, shape)))


@pytest.fixture(params=_cpu.isas())
def isa(request):
    """Each instruction set this CPU can run, in use during the test."""
    usual = _cpu.isa()
    _cpu.select_isa(request.param)
    yield request.param
    _cpu.select_isa(usual)


@pytest.fixture(params=(1, 2, 3), ids="threads{}".format)
def threads(request):
    """One, two and three threads."""
    usual = _cpu.get_num_threads()
    _cpu.set_num_threads(request.param)
    yield request.param
    _cpu.set_num_threads(usual)


@pytest.fixture(params=(512 << 10, 2000, 0), ids="panel{}".format)
def panel_bytes(request, monkeypatch):
    """Panels of a convolution's pixels: all images at once, a few rows, one row."""
    monkeypatch.setattr(_panels, "PANEL_BYTES", request.param)


@pytest.fixture
def machine(isa, threads):
    """Each instruction set on one, two and three threads."""
    return isa, threads


@pytest.fixture
def usual_threads():
    """After the test, the number of threads that was set before it."""
    usual = _cpu.get_num_threads()
    yield
    _cpu.set_num_threads(usual)


@pytest.fixture
def two_threads(usual_threads):
    _cpu.set_num_threads(2)


@pytest.fixture(autouse=True)
def same_start():
    """Every test draws the same weights and masks, whatever ran before it."""
    random.seed(0)


@pytest.fixture
def rng(request):
    """A generator for each test; FASTCNN_TEST_SEED, printed when a test fails, varies all of them."""
    seed = int(os.environ.get("FASTCNN_TEST_SEED", "0"))
    print(f"FASTCNN_TEST_SEED={seed}")
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.encode())])

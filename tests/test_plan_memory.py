"""The memory of a plan: what shares it, that sharing changes nothing, and that its size is what is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.plan import memory
from fastcnn.plan.builder import Builder
from fastcnn.plan.plan import Plan
from fastcnn.plan.stages import weights_of
from tests.small_nets import unet


def test_places_of_blocks(rng):
    """Blocks in use at the same time never overlap; no time needs more than twice what is alive then."""
    for _ in range(50):
        count = int(rng.integers(1, 40))
        firsts = rng.integers(0, 20, count)
        blocks = [memory.Block(int(s), int(f), int(f + n)) for s, f, n in
                  zip(rng.integers(1, 100, count), firsts, rng.integers(0, 8, count), strict=True)]
        offsets, total = memory.place(blocks)
        spans = [(at, at + b.size, b) for at, b in zip(offsets, blocks, strict=True)]
        for i, (low, high, a) in enumerate(spans):
            assert low >= 0 and high <= total
            for other_low, other_high, b in spans[:i]:
                apart = high <= other_low or other_high <= low
                assert apart or a.last < b.first or b.last < a.first
        peak = max(sum(b.size for b in blocks if b.first <= t <= b.last) for t in range(30))
        assert peak <= total <= 2 * peak
    assert memory.place([]) == ([], 0)


def train(share: bool, monkeypatch, poisoned: bool = False):
    monkeypatch.setattr(Builder, "share_memory", share)
    fc.seed(3)
    model = unet()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(1).standard_normal((12, 16, 16, 3))
    if poisoned:
        monkeypatch.setattr(Builder, "finish", finish_and_count)
        monkeypatch.setattr(Plan, "run", run_poisoned)
    history = model.fit(x, np.arange(12) % 5, batch_size=8, epochs=2, verbose=0).history
    result = [history, [w.tobytes() for w in model.get_weights()], model.predict(x).tobytes()]
    return result, [plan.bytes["activations"] for plan in model._plans.values()]


finish = Builder.finish
BAD = {"float32": np.nan, "uint8": 255}  # four bytes of 255 are a NaN, too


def finish_and_count(builder, drafts):
    """`Builder.finish`, which notes how many stages of the engine each draft has become, and who uses memory when."""
    stages = finish(builder, drafts)
    builder.counts = [len(one) for one in stages]
    roots = [b for b in builder.all_buffers if b.root is b and b.array is not None and not b.external
             and not b.has_halo]
    packed, args = weights_of(drafts), builder.arg_buffers.values()
    sums = [*builder.sums, *(rows for rows in builder.gradient_rows.values() if rows.count > 1)]
    builder.users = [(user.array.view(np.uint8), max(0, min(user.stages) - (user in packed)), max(user.stages))
                     for user in (*packed, *args, *sums)]
    for place in successions(roots):
        builder.users.append((place[0].array, min(place[0].stages), max(place[-1].stages)))
    return stages


def successions(roots):
    """Buffers of the batch by place: each list of those that take over from each other within a stage."""
    places = []
    for buffer in sorted(roots, key=lambda b: (b.array.ctypes.data, min(b.stages))):
        last = places[-1][-1] if places else None
        if last and last.array.ctypes.data == buffer.array.ctypes.data and max(last.stages) == min(buffer.stages):
            places[-1].append(buffer)
        else:
            places.append([buffer])
    return places


def run_poisoned(plan, repack=True):
    """`Plan.run` stage by stage; memory is filled with NaN before its first and after its last use."""
    if plan.optimizer is not None:
        plan.updates.refresh()
    users = plan.builder.users
    assert len(plan.calls) == 1 and users
    plan.program.run(0, plan.pack_stages)
    at = plan.pack_stages
    for draft, count in enumerate(plan.builder.counts):
        for array, first, _ in users:
            if first == draft:
                array[...] = BAD[array.dtype.name]
        plan.program.run(at, at + count)
        at += count
        for array, _, last in users:
            if last == draft:
                array[...] = BAD[array.dtype.name]
    plan.program.run(at, plan.program.n_stages)
    if plan.builder.training:
        plan.builder.counter[1] += 1
    if plan.optimizer is not None:
        plan.optimizer.iterations += 1


def test_shared_memory_changes_no_bit(monkeypatch):
    """Nor does what lies in memory before its first and after its last use."""
    (alone, large), (shared, small) = (train(share, monkeypatch) for share in (False, True))
    assert shared == alone
    assert sum(small) < 0.95 * sum(large)
    assert train(True, monkeypatch, poisoned=True)[0] == alone


def residual():
    image = fc.Input((12, 12, 8))
    x = fc.layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    for _ in range(3):
        y = fc.layers.ReLU()(fc.layers.BatchNormalization()(x))
        y = fc.layers.DepthwiseConv2D(3, padding="same")(y)
        x = fc.layers.ReLU()(fc.layers.Add()([x, fc.layers.BatchNormalization()(y)]))
    return fc.Model(image, fc.layers.Dense(4)(fc.layers.GlobalAveragePooling2D()(x)))


def test_a_gradient_takes_over_the_place_of_one_read_before(monkeypatch):
    """Only of what an earlier step of the same stage has read last; and no bit changes."""
    monkeypatch.setattr(Builder, "finish", finish_and_count)
    results = []
    for share in (True, False):
        monkeypatch.setattr(Builder, "share_memory", share)
        fc.seed(3)
        model = residual()
        model.compile("adam", "mse")
        x = np.random.default_rng(1).standard_normal((20, 12, 12, 8), np.float32)
        losses = [model.train_on_batch(x, np.ones((20, 4), np.float32)) for _ in range(2)]
        results.append((str(losses), [w.tobytes() for w in model.get_weights()]))
        builder = next(iter(model._plans.values())).builder
        roots = [b for b in builder.all_buffers if b.root is b and b.array is not None and not b.external]
        heirs = [(old, new) for place in successions(roots) for old, new in zip(place, place[1:], strict=False)]
        assert len(heirs) > 3 if share else not heirs
        for old, new in heirs:
            assert max(old.steps) < min(new.steps) and old.image_bytes == new.image_bytes and old.halo == new.halo
    assert results[0] == results[1]


@pytest.mark.parametrize("train", [True, False])
def test_the_memory_of_a_plan_is_what_it_allocates(train):
    model = unet()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.zeros((64, 16, 16, 3), np.float32), np.zeros(64, int)
    model.train_on_batch(x[:2], y[:2])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    model.train_on_batch(x, y) if train else model.test_on_batch(x, y)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    plan = next(reversed(model._plans.values()))
    assert sum(plan.bytes.values()) == pytest.approx(used, rel=0.1)


PROGRAM = """
import numpy as np
import fastcnn as fc
from fastcnn import zoo

def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024

x = np.random.default_rng(0).standard_normal(({batch}, *{shape}), np.float32)
y = np.zeros(({batch}, *{positions}), np.int32)
before = resident("VmRSS")
model = zoo.{net}
model.compile("adam", "sparse_categorical_crossentropy")
model.summary({batch})
model.train_on_batch(x, y)
print("grown by", resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the resident memory is read from /proc")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer has memory of its own")
@pytest.mark.parametrize("net, batch, positions", [
    ("simple_cnn()", 512, ()), ("resnet20((32, 32, 3), 10)", 32, ()), ("vgg11((32, 32, 3), 10, units=64)", 8, ()),
    ("vgg11((32, 32, 3), 10, width=8, units=3000)", 8, ()),
    ("unet((32, 32, 3), 10, width=16)", 16, (32, 32)), ("mobilenet_v1((32, 32, 3), 10)", 16, ())])
def test_a_summary_predicts_the_growth_of_resident_memory(net, batch, positions):
    """Of 40 MB and more, beside which the free memory that imports have left behind (1 MB) does not count."""
    shape = (28, 28, 1) if net == "simple_cnn()" else (32, 32, 3)
    code = PROGRAM.format(net=net, batch=batch, shape=shape, positions=positions)
    # One thread: on a busy machine a second one may find no work, and never touch the memory it has.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          cwd=Path(fc.__file__).parents[1], env={**os.environ, "FASTCNN_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    predicted = float(re.search(r"Memory: +([\d.]+) MB", done.stdout)[1])
    assert predicted == pytest.approx(float(done.stdout.split()[-1]), rel=0.1)

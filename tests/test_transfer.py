"""Transfer learning: weights by name, frozen layers that cost nothing, and what moves when."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812

X = np.random.default_rng(0).standard_normal((6, 8, 8, 2)).astype(np.float32)
Y = np.arange(6) % 3


def net(classes=3, head="head", width=4):
    return fc.Sequential([
        L.Conv2D(width, 3, padding="same", activation="relu", input_shape=(8, 8, 2), name="first"),
        L.MaxPooling2D(2),
        L.Conv2D(6, 3, activation="tanh", name="second"),
        L.Flatten(),
        L.Dense(classes, activation="softmax", name=head),
    ])


def values(model, layer):
    return model.get_layer(layer).get_weights()


def same(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


@pytest.fixture
def path(tmp_path):
    saved = net()
    saved.save_weights(tmp_path / "saved.safetensors")
    return saved, tmp_path / "saved.safetensors"


# ---- weights by name ----


def test_by_name_takes_the_layers_both_have(path):
    saved, file = path
    model = net(5, "new_head")
    before = values(model, "new_head")
    report = model.load_weights(file, by_name=True)
    assert same(values(model, "first"), values(saved, "first"))
    assert same(values(model, "second"), values(saved, "second"))
    assert same(values(model, "new_head"), before)
    assert report.loaded == ["first/kernel", "first/bias", "second/kernel", "second/bias"]
    assert report.skipped == {"new_head/kernel": "not in the file", "new_head/bias": "not in the file"}
    assert report.unused == ["head/kernel", "head/bias"]
    assert str(report).splitlines()[0] == "4 weights loaded, 2 left as they were, 2 unused"
    assert "new_head/bias    left: not in the file" in str(report)


def test_a_layer_is_loaded_whole_or_not_at_all(path):
    """The bias of the second layer would fit; its kernel does not."""
    saved, file = path
    model = net(width=5)
    before = model.get_weights()
    with pytest.raises(fc.CheckpointError, match=r"first/kernel +\(3, 3, 2, 5\) +\(3, 3, 2, 4\)"):
        model.load_weights(file, by_name=True)
    assert same(model.get_weights(), before)
    words = "other shapes for first/kernel, first/bias, second/kernel; their layers stay"
    with pytest.warns(UserWarning, match=words) as caught:
        report = model.load_weights(file, skip_mismatch=True)
    assert caught[0].filename == __file__
    assert report.loaded == ["head/kernel", "head/bias"]
    assert report.skipped["second/kernel"] == "shape (3, 3, 5, 6) here, (3, 3, 4, 6) in the file"
    assert report.skipped["second/bias"] == "the rest of its layer does not fit"
    assert same(values(model, "second"), before[2:4]) and same(values(model, "head"), values(saved, "head"))


def test_skip_mismatch_alone_wants_all_names(path):
    with pytest.raises(fc.CheckpointError, match="new_head/kernel"):
        net(3, "new_head").load_weights(path[1], skip_mismatch=True)


def test_no_layer_at_all_is_an_error(path):
    other = fc.Sequential([L.Dense(2, input_shape=(3,), name="other")])
    with pytest.raises(fc.CheckpointError, match="no layer of the model fits the file, whose weights are first/kernel"):
        other.load_weights(path[1], by_name=True)


def test_a_whole_file_reports_too(path):
    report = net().load_weights(path[1])
    assert len(report.loaded) == 6 and not report.skipped and not report.unused


# ---- frozen layers ----


def steps(model):
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(X, Y)
    return {name for name, layer in next(reversed(model._plans.values())).steps if layer is not None}


def test_frozen_layers_cost_no_gradient_work():
    model = net()
    model.get_layer("first").trainable = model.get_layer("second").trainable = False
    assert steps(model) == {"first forward", "second forward", "head forward", "head weight gradient"}


def test_a_frozen_layer_behind_a_trainable_one_passes_its_gradient_on():
    model = net()
    model.get_layer("second").trainable = False
    names = steps(model)
    assert "second input gradient" in names and "second weight gradient" not in names
    assert {"first weight gradient", "head weight gradient"} <= names and "first input gradient" not in names


def test_frozen_weights_stay_and_thaw():
    """Freezing, training, thawing and training on, with or without compiling again; moments stay where they belong."""
    model = net()
    model.get_layer("first").trainable = model.get_layer("second").trainable = False
    model.compile(fc.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    before = model.get_weights()
    model.fit(X, Y, epochs=3, verbose=0)
    after = model.get_weights()
    assert same(after[:4], before[:4]) and not same(after[4:], before[4:])
    model.trainable = True
    model.fit(X, Y, verbose=0)
    assert not any((a == b).all() for a, b in zip(model.get_weights(), after, strict=True))
    model.trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    last = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert same(model.get_weights(), last)


def test_a_frozen_model_as_part_of_another():
    """`base.trainable = False` holds for the layers of a model inside another one."""
    base = fc.Sequential([L.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 2), name="base"), L.Flatten()])
    base.trainable = False
    x = fc.Input((8, 8, 2))
    model = fc.Model(x, L.Dense(3, "softmax", name="top")(base(x)))
    assert steps(model) == {"base forward", "top forward", "top weight gradient"}
    assert [v.path for v in model.trainable_weights] == ["top/kernel", "top/bias"]

"""Models saved and loaded: same predictions, same training to the bit, readable errors otherwise."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import initializers, layers, losses, metrics, optimizers, random, regularizers, schedules
from fastcnn.saving import load_file, save_file

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 8, 8, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def small_net(**words) -> fc.Sequential:
    return fc.Sequential([
        layers.Conv2D(4, 3, padding="same", activation="relu", input_shape=(8, 8, 2), **words),
        layers.MaxPooling2D(2), layers.Dropout(0.4), layers.Flatten(), layers.Dense(3, activation="softmax"),
    ])


def compiled(model: fc.Model, optimizer="adam", **words) -> fc.Model:
    model.compile(optimizer, words.pop("loss", "sparse_categorical_crossentropy"), **words)
    return model


def assert_same_arrays(got, want) -> None:
    assert [a.shape for a in got] == [a.shape for a in want]
    for a, b in zip(got, want, strict=True):
        assert a.tobytes() == b.tobytes()


class Scale(layers.Layer):
    """A layer of the user's own, with a weight and an argument."""

    def __init__(self, start=1.0, name=None):
        super().__init__(name=name)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(input_shape[-1:], initializers.Constant(self.start), "factor")

    def forward(self, x, training):
        self.x = x.copy()
        return x * self.factor.value

    def backward(self, dy):
        self.gradients["factor"] = (dy * self.x).sum(axis=tuple(range(dy.ndim - 1)))
        return dy * self.factor.value

    def get_config(self):
        return {**super().get_config(), "start": self.start}


class Halving(schedules.LearningRateSchedule):
    """A schedule of the user's own."""

    def __init__(self, rate=0.1):
        self.rate = rate

    def __call__(self, step):
        return self.rate * 0.5**step


class Cubic(losses.Loss):
    """A loss of the user's own."""

    def __init__(self, name="cubic"):
        super().__init__(name)

    def per_sample(self, y_true, y_pred):
        return (np.abs(y_pred - y_true) ** 3).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        error = y_pred - y_true
        return 3 * error * np.abs(error) / y_pred.shape[-1]


# ------------------------------------------------------------------------------------------ training goes on


@pytest.mark.parametrize("optimizer", [
    optimizers.SGD(0.1), optimizers.SGD(0.05, momentum=0.9, nesterov=True), optimizers.Adam(clipnorm=0.5),
    optimizers.AdamW(global_clipnorm=1.0), optimizers.Nadam(0.01), optimizers.Adagrad(0.1),
    optimizers.RMSprop(centered=True, momentum=0.5), optimizers.Adadelta(1.0),
    optimizers.SGD(schedules.CosineDecay(0.1, 9), momentum=0.8),
], ids=lambda o: type(o).__name__)
def test_training_goes_on_with_the_same_bits(path, optimizer):
    """Three epochs, against two, a file, and one more; dropout, moments and step count all matter."""
    model = compiled(small_net(kernel_regularizer="l2"), optimizer, metrics=["accuracy"])
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save(path)
    model.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)

    loaded = fc.load_model(path)
    assert loaded.optimizer.iterations == 6
    history = loaded.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0).history
    assert history == model.history.history
    assert_same_arrays(loaded.get_weights(), model.get_weights())


def test_without_the_optimizer_training_starts_anew(path):
    model = compiled(small_net())
    model.fit(X, Y, verbose=0)
    model.save(path, include_optimizer=False)
    loaded = fc.load_model(path)
    assert loaded.optimizer is None
    assert_same_arrays(loaded.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match="must be compiled first"):
        loaded.fit(X, Y, verbose=0)


def test_a_model_loaded_and_saved_again_is_the_same_file(path, tmp_path):
    model = compiled(small_net(), metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(k=2)])
    model.fit(X, Y, verbose=0)
    model.save(path)
    again = tmp_path / "again.safetensors"
    fc.load_model(path).save(again)
    arrays, metadata = load_file(path)
    arrays_again, metadata_again = load_file(again)
    assert metadata_again == metadata
    assert list(arrays_again) == list(arrays)
    assert_same_arrays(list(arrays_again.values()), list(arrays.values()))


def test_a_lowered_learning_rate_is_kept(path):
    model = compiled(small_net(), optimizers.SGD(0.5))
    model.fit(X, Y, verbose=0)
    model.optimizer.learning_rate = 0.125
    model.save(path)
    assert fc.load_model(path).optimizer.learning_rate == 0.125


def test_another_process_reads_the_file(path):
    model = small_net()
    model.save(path)
    program = f"import fastcnn, sys, numpy as np\nm = fastcnn.load_model({str(path)!r})\n" \
              "sys.stdout.buffer.write(m.predict(np.ones((2, 8, 8, 2))).tobytes())"
    root = Path(fc.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == model.predict(np.ones((2, 8, 8, 2))).tobytes()


# ------------------------------------------------------------------------------------------ architectures


def subclass_model():
    class Net(fc.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, activation="relu")
            self.out = layers.Dense(3)

        def call(self, x):
            return self.out(layers.Flatten()(self.conv(x)))

    model = Net()
    model.build((None, 8, 8, 2))
    return model


def shared_layer_model():
    a, b = fc.Input((8, 8, 2), name="left"), fc.Input((8, 8, 2))
    conv = layers.Conv2D(3, 3, name="shared")
    heads = [layers.GlobalAveragePooling2D()(conv(x)) for x in (a, b)]
    dense = layers.Dense(2)
    return fc.Model([a, b], [dense(heads[0]), dense(heads[1])])


def nested_model():
    inner = fc.Sequential([layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(2)], name="inner")
    return fc.Sequential([inner, layers.Flatten(input_shape=(8, 8, 2)), layers.Dense(3)])


@pytest.mark.parametrize("make", [small_net, subclass_model, nested_model])
def test_every_kind_of_model_comes_back(path, make):
    model = make()
    model.build((None, 8, 8, 2))
    model.save(path)
    loaded = fc.load_model(path)
    assert loaded.name == model.name
    assert (loaded.input_shape, loaded.output_shape) == (model.input_shape, model.output_shape)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert isinstance(loaded, fc.Sequential) == (make is small_net)


def test_several_inputs_and_outputs_and_a_shared_layer(path):
    model = shared_layer_model()
    model.compile(optimizers.SGD(0.1, momentum=0.5), ["mse", losses.MeanAbsoluteError()], [["mae"], []],
                  loss_weights=[1, 0.5])
    targets = [RNG.standard_normal((20, 2)), RNG.standard_normal((20, 2))]
    model.fit([X, X[::-1]], targets, epochs=1, shuffle=False, verbose=0)
    model.save(path)
    assert len([name for name in load_file(path)[0] if name.startswith("shared/")]) == 2
    loaded = fc.load_model(path)
    assert len(loaded.weights) == 4
    for one in (model, loaded):
        one.fit([X, X[::-1]], targets, epochs=1, shuffle=False, verbose=0)
    assert_same_arrays(loaded.predict([X, X]), model.predict([X, X]))
    assert loaded.history.history == model.history.history


def test_a_single_input_in_a_list_stays_a_list(path):
    x = fc.Input((4,))
    fc.Model([x], [layers.Dense(2)(x)]).save(path)
    loaded = fc.load_model(path)
    assert loaded.input_shape == [(None, 4)]
    assert loaded.output_shape == [(None, 2)]


def test_configurations_of_layers_come_back(path):
    model = fc.Sequential([
        layers.Conv2D(4, (3, 2), strides=(2, 1), padding=((1, 0), (2, 1)), use_bias=False,
                      kernel_initializer=initializers.HeNormal(),
                      kernel_regularizer=regularizers.L1L2(0.1, 0.2), input_shape=(8, 8, 2)),
        layers.LeakyReLU(0.1), layers.Reshape((-1,)),
        layers.Dense(3, bias_initializer=initializers.Constant(2.0)),
    ])
    model.save(path)
    for got, want in zip(fc.load_model(path).layers, model.layers, strict=True):
        assert type(got) is type(want)
        assert json.loads(json.dumps(got.get_config())) == json.loads(json.dumps(want.get_config()))


def test_frozen_layers_stay_frozen(path):
    model = compiled(fc.Sequential([layers.Conv2D(2, 3, input_shape=(8, 8, 2)), Scale(), layers.Flatten(),
                                    layers.Dense(3, activation="softmax")]))
    for layer in model.layers[:2]:
        layer.trainable = False
    model.save(path)
    loaded = fc.load_model(path, {"Scale": Scale})
    assert [v.path for v in loaded.trainable_weights] == [v.path for v in model.trainable_weights]
    assert len(loaded.trainable_weights) == 2


def test_new_layers_on_a_loaded_model_get_new_names(path, monkeypatch):
    model = fc.Sequential([layers.Flatten(input_shape=(8, 8, 2)), layers.Dense(4, name="dense"),
                           layers.Dense(3, name="dense_1")])
    model.save(path)
    from fastcnn.layers import base
    monkeypatch.setattr(base, "_names", type(base._names)())  # as in a new process
    loaded = fc.load_model(path)
    loaded.pop()
    loaded.add(layers.Dense(5))
    assert loaded.predict(X).shape == (20, 5)


# ------------------------------------------------------------------------------------------ custom objects


def custom_model():
    return compiled(fc.Sequential([layers.Flatten(input_shape=(8, 8, 2)), Scale(0.5), layers.Dense(1)]),
                    optimizers.SGD(Halving(0.01)), loss=Cubic(), metrics=[Cubic(), "mae"])


def test_custom_layers_losses_and_schedules(path):
    model = custom_model()
    model.fit(X, Y, verbose=0, shuffle=False)
    model.save(path)
    loaded = fc.load_model(path, {"Scale": Scale, "Cubic": Cubic, "Halving": Halving})
    assert loaded.layers[1].start == 0.5
    for one in (model, loaded):
        one.fit(X, Y, verbose=0, shuffle=False)
    assert_same_arrays(loaded.get_weights(), model.get_weights())
    assert loaded.history.history == model.history.history


@pytest.mark.parametrize(("missing", "words"), [
    ("Scale", "model cannot be rebuilt.*unknown layer 'Scale'.*custom_objects"),
    ("Cubic", "training state cannot be restored.*unknown loss 'Cubic'.*custom_objects"),
    ("Halving", "training state cannot be restored.*'Halving'.*custom_objects"),
])
def test_a_missing_custom_object_is_named(path, missing, words):
    custom_model().save(path)
    classes = {"Scale": Scale, "Cubic": Cubic, "Halving": Halving}
    del classes[missing]
    with pytest.raises(fc.CheckpointError, match=words):
        fc.load_model(path, classes)


@pytest.mark.parametrize("custom_objects", [{"Scale": Scale()}, {"Scale": "Scale"}])
def test_custom_objects_must_be_classes(path, custom_objects):
    small_net().save(path)
    with pytest.raises(TypeError, match=r"custom_objects\['Scale'\] must be a class"):
        fc.load_model(path, custom_objects)


def test_a_metric_that_is_a_function_is_left_out_with_a_warning(path):
    def largest(y_true, y_pred):
        return np.abs(y_pred).max()

    model = compiled(small_net(), metrics=["accuracy", largest])
    model.fit(X, Y, verbose=0)
    with pytest.warns(UserWarning, match="largest.*function.*left out") as caught:
        model.save(path)
    assert caught[0].filename == __file__
    assert list(fc.load_model(path).evaluate(X, Y, return_dict=True, verbose=0)) == ["loss", "accuracy"]


def test_a_loss_that_cannot_be_described_leaves_the_model(path):
    class Odd(Cubic):
        def __init__(self, power):
            super().__init__()

    model = compiled(small_net(), loss=Odd(2))
    with pytest.warns(UserWarning, match="training state is left out.*power"):
        model.save(path)
    assert fc.load_model(path).optimizer is None


# ------------------------------------------------------------------------------------------ weights


def test_weights_go_to_a_model_built_by_the_same_program(path):
    """In one process the second model's layers are called dense_1 where the first one's are called dense."""
    first, second = small_net(), small_net()
    assert first.weights[0].path != second.weights[0].path
    first.save_weights(path)
    second.load_weights(path)
    assert_same_arrays(second.get_weights(), first.get_weights())


def test_names_count_before_order(path):
    def net(*names):
        return fc.Sequential([layers.Dense(3, name=name, input_shape=(3,)) for name in names])

    first, second = net("a", "b"), net("b", "a")
    first.save_weights(path)
    second.load_weights(path)
    assert_same_arrays(second.get_weights(), [*first.get_weights()[2:], *first.get_weights()[:2]])


def test_load_weights_reads_a_whole_model_and_keeps_a_plan_valid(path):
    first, second = compiled(small_net()), small_net()
    first.fit(X, Y, verbose=0)
    before = second.predict(X)
    first.save(path)
    second.load_weights(path)
    assert second.predict(X).tobytes() == first.predict(X).tobytes() != before.tobytes()


def test_weights_that_do_not_fit(path):
    small_net().save_weights(path)
    other = fc.Sequential([layers.Conv2D(5, 3, input_shape=(8, 8, 2), name="conv"), layers.Flatten(),
                           layers.Dense(3, name="out")])
    before = other.get_weights()
    with pytest.raises(fc.CheckpointError) as caught:
        other.load_weights(path)
    assert "conv/kernel" in str(caught.value)
    assert re.search(r"out/kernel +\(180, 3\) +\(64, 3\)", str(caught.value))  # by order: names differ
    assert_same_arrays(other.get_weights(), before)


def test_a_layer_of_another_size_is_named(path):
    small_net(name="conv").save_weights(path)
    other = fc.Sequential([layers.Conv2D(4, 5, padding="same", input_shape=(8, 8, 2), name="conv"),
                           layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(fc.CheckpointError, match=r"conv/kernel\s+\(5, 5, 2, 4\)\s+\(3, 3, 2, 4\)"):
        other.load_weights(path)


@pytest.mark.parametrize("call", [fc.Model.save, fc.Model.save_weights, fc.Model.load_weights])
def test_a_model_without_shapes(path, call):
    with pytest.raises(ValueError, match="no shapes yet"):
        call(fc.Sequential([layers.Dense(3)]), path)
    assert not path.exists()


def test_two_weights_of_one_name_are_refused():
    class Twice(Scale):
        def build(self, input_shape):
            self.add_weight((1,))
            self.add_weight((1,))

    with pytest.raises(ValueError, match=r"twice.*two weights named 'weight'.*name="):
        fc.Sequential([Twice(name="twice")]).predict(X)


# ------------------------------------------------------------------------------------------ random numbers


def test_loading_leaves_the_random_numbers_alone(path):
    compiled(small_net()).save(path)
    fc.seed(7)
    want = random.generator().random(3)
    fc.seed(7)
    fc.load_model(path)
    assert (random.generator().random(3) == want).all()


# ------------------------------------------------------------------------------------------ bad files


def test_a_file_of_weights_alone(path):
    small_net().save_weights(path)
    with pytest.raises(fc.CheckpointError, match="weights without an architecture.*load_weights"):
        fc.load_model(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        fc.load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="must end in '.safetensors'"):
        fc.load_model(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="must end in '.safetensors'"):
        small_net().save(tmp_path / "model.keras")


def test_errors_name_the_method_that_was_called(tmp_path):
    net = small_net()
    for method in ("save", "save_weights", "load_weights"):
        with pytest.raises(FileNotFoundError, match=f"^{net.name}.{method}: "):
            getattr(net, method)(tmp_path / "nowhere" / "net.safetensors")
    with pytest.raises(FileNotFoundError, match="^load_model: no file "):
        fc.load_model(tmp_path / "net.safetensors")


def test_a_full_folder_is_told_without_numbers(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    net = small_net()
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=f"^{net.name}.save: cannot write .*No space left.*bytes free") as error:
        net.save(tmp_path / "net.safetensors")
    assert error.value.errno == errno.ENOSPC


def test_configurations_must_be_json(tmp_path):
    class Mine(layers.Layer):
        def get_config(self):
            return {"name": self.name, "function": print}

    model = fc.Sequential([layers.Dense(2, input_shape=(3,)), Mine(name="mine")])
    with pytest.raises(TypeError, match="mine: what get_config returns must hold only dict, list.*print"):
        model.save(tmp_path / "net.safetensors")


def change(metadata, *keys, value):
    """Set metadata[keys[0]][keys[1]]... to a value, or delete it if the value is None."""
    for key in keys[:-1]:
        metadata = metadata[key]
    if value is None:
        del metadata[keys[-1]]
    else:
        metadata[keys[-1]] = value


@pytest.mark.parametrize(("keys", "value"), [
    (("architecture",), []), (("architecture",), "Sequential"), (("architecture", "layers"), None),
    (("architecture", "layers", 0, "config", "filters"), -1), (("architecture", "layers", 0, "config"), 3),
    (("architecture", "layers", 0, "config", "extra"), 1),
    (("architecture", "layers", 0, "class_name"), ["x"]), (("architecture", "input_shape"), [8, 8]),
    (("architecture", "layers", 0, "trainable"), "yes"),
    (("weights",), None), (("weights",), 3), (("weights", 0), "unknown/kernel"),
    (("training", "optimizer", "class_name"), "Eve"), (("training", "loss"), 5),
    (("training", "iterations"), "many"), (("training", "dropout"), [-1, 0]),
    (("training", "dropout"), [1, 2, 3]), (("training", "metrics"), None),
    (("training",), []),
])
def test_damaged_descriptions(path, keys, value):
    model = compiled(small_net())
    model.fit(X, Y, verbose=0)
    model.save(path)
    arrays, metadata = load_file(path)
    change(metadata, *keys, value=value)
    save_file(path, arrays, metadata)
    with pytest.raises(fc.CheckpointError, match=r"model\.safetensors"):
        fc.load_model(path)


def test_missing_moments_are_named(path):
    model = compiled(small_net(name="conv"))
    model.fit(X, Y, verbose=0)
    model.save(path)
    arrays, metadata = load_file(path)
    del arrays["slots/velocity/conv/kernel"]
    save_file(path, arrays, metadata)
    with pytest.raises(fc.CheckpointError, match="slots/velocity/conv/kernel .*missing"):
        fc.load_model(path)


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    model = small_net()
    model.save(path)
    before = path.read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]

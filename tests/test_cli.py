"""The command line: what it prints, what it returns, and one line for each mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import cli, doctor, layers, zoo
from fastcnn.cli import main
from fastcnn.kernels import _cpu

ROOT = Path(fastcnn.__file__).parents[1]  # from where `python -m fastcnn` finds the package under test
LAST_LINE = re.compile(r"Test accuracy: (0\.\d{4})   Time: \d+\.\d s")


pytestmark = pytest.mark.usefixtures("usual_threads")


@pytest.fixture
def small_data(monkeypatch):
    """mnist_5k cut down to 256 images to train and 100 to test."""
    (x, y), (x_test, y_test) = fastcnn.datasets.mnist_5k.load_data()

    class Small:
        @staticmethod
        def load_data():
            return (x[:256], y[:256]), (x_test[:100], y_test[:100])

    monkeypatch.setitem(cli.DATASETS, "mnist_5k", Small)
    return (x[:256], y[:256]), (x_test[:100], y_test[:100])


@pytest.fixture(scope="module")
def picture_folder(tmp_path_factory) -> Path:
    """Two classes of pictures of two sizes, bright at the top or at the bottom."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("down", "up")):
        (root / name).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 80, (28 + i % 2, 28, 3), np.uint8)
            (pixels[:14] if label else pixels[14:])[...] += 150
            image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ------------------------------------------------------------------------------------------ commands


def test_train_as_users_start_it():
    """One epoch over the bundled digits, in a process of its own, ends well above the 0.1 of guessing."""
    command = [sys.executable, "-m", "fastcnn", "train", "--epochs", "1"]
    run = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert "mnist_5k: 4000 images of 28x28x1 to train, 1000 to test; 421,642 parameters" in lines[0]
    assert lines[1].startswith("Epoch 1/1")
    assert float(LAST_LINE.fullmatch(lines[-1])[1]) > 0.8


def test_train_evaluate_and_predict(capsys, small_data, tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "digits.safetensors"
    code, out, _ = run(capsys, "train", "--epochs", "8", "--batch-size", "32", "--save", str(path))
    accuracy = LAST_LINE.fullmatch(out.splitlines()[-1])[1]
    assert code == 0
    assert float(accuracy) > 0.6

    code, out, _ = run(capsys, "evaluate", str(path))
    assert (code, out) == (0, f"Test accuracy: {accuracy}   (100 images)\n")

    (x, y), _ = small_data
    files = [str(tmp_path / f"{i}.png") for i in range(4)]
    for file, pixels in zip(files, x, strict=False):
        image.fromarray(pixels[..., 0]).save(file)
    code, out, _ = run(capsys, "predict", str(path), *files)
    lines = [re.fullmatch(r"(.*): (\d)  (\d\.\d{4})", line).groups() for line in out.splitlines()]
    assert code == 0
    assert [line[0] for line in lines] == files
    assert [int(line[1]) for line in lines] == y[:4].tolist()
    want = fastcnn.load_model(path).predict(x[:4].astype(np.float32) / 255).max(axis=1)
    assert [float(line[2]) for line in lines] == pytest.approx(want, abs=6e-5)

    _, out, _ = run(capsys, "predict", str(path), files[0], "--dataset", "fashion_mnist")
    assert f": {cli.CLASS_NAMES['fashion_mnist'][y[0]]}  " in out


def test_the_same_seed_gives_the_same_model_on_any_threads(capsys, small_data, tmp_path):
    weights = {}
    for name, options in (("a", ()), ("b", ("--threads", "3")), ("c", ("--seed", "1"))):
        path = tmp_path / f"{name}.safetensors"
        assert run(capsys, "train", "--epochs", "1", "--save", str(path), *options)[0] == 0
        weights[name] = b"".join(w.tobytes() for w in fastcnn.load_model(path).get_weights())
    assert weights["a"] == weights["b"] != weights["c"]


def test_options_reach_the_training(capsys, small_data, monkeypatch):
    """A learning rate of 0 leaves the model guessing; the number of epochs and LeNet-5 show in the output."""
    _, out, _ = run(capsys, "train", "--model", "lenet5", "--epochs", "2", "--learning-rate", "0")
    losses = re.findall(r"loss: ([\d.]+)", out)
    assert "61,706 parameters" in out
    assert len(losses) == 2
    assert abs(float(losses[0]) - float(losses[1])) < 2e-4


def test_a_folder_of_pictures(capsys, picture_folder, tmp_path):
    path = tmp_path / "pictures.safetensors"
    command = "train", "--dataset", str(picture_folder), "--epochs", "4", "--batch-size", "8"
    code, out, err = run(capsys, *command)
    assert code == 2
    assert "give image_size" in err
    code, out, err = run(capsys, *command, "--image-size", "16", "--save", str(path))
    assert code == 0, err
    assert "32 images of 16x16x3 to train, 8 to test" in out
    assert out.splitlines()[-1].startswith("Test accuracy: 1.0000")
    _, out, _ = run(capsys, "evaluate", str(path), "--dataset", str(picture_folder))
    assert out == "Test accuracy: 1.0000   (8 images)\n"
    _, out, _ = run(capsys, "predict", str(path), str(picture_folder / "up" / "3.png"), "--dataset",
                    str(picture_folder))
    assert ": up  " in out


def test_scores_become_probabilities():
    logits = np.array([[2.0, 0.0], [-1.0, 3.0]], np.float32)
    want = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cli.probabilities(logits), want, rtol=1e-6)
    given = np.array([[0.25, 0.75]], np.float32)
    assert cli.probabilities(given) is given


def test_bench(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_step_times", lambda step: [step() and 0.002, 0.004, 0.003])
    code, out, _ = run(capsys, "bench", "--batch-size", "8")
    assert code == 0
    work = 3 * 2 * (14 * 14 * 9 * 32 * 64 + 3136 * 128 + 1280) + 2 * 2 * 28 * 28 * 9 * 32
    assert "3.00 ms per training step (median of 3, fastest 2.00)   2,667 images/s" in out
    assert f"{8 * work / 0.003 / 1e9:.1f} GFLOP/s" in out


def test_step_times():
    calls = []
    times = cli._step_times(lambda: calls.append(1), seconds=0.0)
    assert (len(times), len(calls)) == (5, 8)
    assert min(times) >= 0


def test_doctor(capsys):
    isa, threads = _cpu.isa(), _cpu.get_num_threads()
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert out.startswith(f"fastcnn      {fastcnn.__version__}")
    assert out.count("OK\n") == len(_cpu.isas()) + 2
    assert "FAIL" not in out
    assert (_cpu.isa(), _cpu.get_num_threads()) == (isa, threads)


def test_doctor_finds_wrong_kernels(capsys, monkeypatch):
    right = fastcnn.ops.conv2d_input_grad

    def wrong_in_one_value(*arguments, **options):
        dx = right(*arguments, **options)
        dx.flat[7] += 1
        return dx

    monkeypatch.setattr(doctor.ops, "conv2d_input_grad", wrong_in_one_value)
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert out.count("FAIL\n") == len(_cpu.isas())
    assert "conv2d_input_grad of shape (2, 9, 11, 3) differs from the reference in 1 of 594 values" in out
    assert "threads" in out.splitlines()[-2]
    assert out.splitlines()[-2].endswith("OK")


def test_doctor_finds_results_that_depend_on_threads(capsys, monkeypatch):
    train = doctor._train

    def depends_on_threads(epochs=2):
        weights, history = train(epochs)
        weights[0][...] += 1e-7 * _cpu.get_num_threads()
        return weights, history

    monkeypatch.setattr(doctor, "_train", depends_on_threads)
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "does not give the same bits  FAIL" in out


def test_doctor_finds_training_that_does_not_learn(monkeypatch):
    monkeypatch.setattr(doctor, "_train", lambda epochs: ([], [1.0, float("nan")]))
    with pytest.raises(AssertionError, match="did not fall: 1.000 at first, nan"):
        doctor.check_training()


# ------------------------------------------------------------------------------------------ mistakes


@pytest.fixture
def model_file(tmp_path) -> str:
    path = tmp_path / "model.safetensors"
    zoo.simple_cnn((28, 28, 1), 10).save(path)
    return str(path)


@pytest.mark.parametrize(("argv", "message"), [
    (["train", "--dataset", "mnits"], "unknown data set 'mnits'. Did you mean 'mnist'?"),
    (["train", "--model", "lenet"], "unknown model 'lenet'. Did you mean 'lenet5'?"),
    (["train", "--learning-rate", "-1"], "learning_rate must be at least 0"),
    (["train", "--seed", "-1"], "seed: expected 0 or more"),
    (["train", "--save", "model.h5"], "must end in '.safetensors'"),
    (["train", "--save", "/no/such/folder/m.safetensors"], "no folder '/no/such/folder'"),
    (["train", "--save", "FOLDER"], ".safetensors' is a folder; give the name of a file"),
    (["train", "--threads", "5000"], "expected 1 to 1024 threads"),
    (["evaluate", "nothing.safetensors"], "no file 'nothing.safetensors'"),
    (["predict", "nothing.safetensors", "a.png"], "fastcnn: load_model: no file 'nothing.safetensors' (looked in "),
    (["predict", "MODEL", "nothing.png"], "fastcnn: predict: no file 'nothing.png' (looked in "),
    (["predict", "MODEL", "MODEL"], "fastcnn: predict: cannot read '"),
    (["evaluate", "MODEL", "--dataset", "cifar"], "unknown data set 'cifar'. Did you mean 'cifar10'?"),
    (["predict", "MODEL", "a.png", "--dataset", "nowhere"], "no folder 'nowhere'"),
])
def test_mistakes_are_one_line(capsys, monkeypatch, model_file, tmp_path, argv, message):
    (tmp_path / "folder.safetensors").mkdir()
    paths = {"MODEL": model_file, "FOLDER": str(tmp_path / "folder.safetensors")}
    code, out, err = run(capsys, *[paths.get(word, word) for word in argv])
    assert code == 2
    assert err.startswith("fastcnn: ")
    assert message in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(("argv", "message"), [
    ([], "the following arguments are required: COMMAND"),
    (["tarin"], "invalid choice: 'tarin'"),
    (["train", "--epochs", "0"], "expected a whole number of 1 or more, got '0'"),
    (["train", "--batch-size", "many"], "expected a whole number of 1 or more, got 'many'"),
    (["bench", "--threads", "-2"], "expected a whole number of 1 or more, got '-2'"),
    (["predict", "model.safetensors"], "arguments are required: IMAGE"),
])
def test_wrong_words_show_the_usage(capsys, argv, message):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("layer", [layers.Dense(1), layers.Reshape((2, 5))])
def test_models_that_are_no_classifiers(capsys, tmp_path, layer):
    path = tmp_path / "model.safetensors"
    fastcnn.Sequential([layers.Flatten(input_shape=(4, 4, 1)), layers.Dense(10), layer]).save(path)
    code, _, err = run(capsys, "predict", str(path), "a.png")
    assert code == 2
    assert "must be a model from images" in err


def test_a_damaged_picture(capsys, model_file, tmp_path):
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(b"no picture")
    code, _, err = run(capsys, "predict", model_file, str(tmp_path / "a.png"))
    assert code == 2
    assert "cannot read" in err
    assert "a.png" in err


def test_ctrl_c(capsys, monkeypatch, small_data):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastcnn.Sequential, "train_on_batch", interrupted)
    code, _, err = run(capsys, "bench")
    assert (code, err) == (130, "fastcnn: interrupted\n")


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastcnn {fastcnn.__version__}\n"

"""The package as shipped: what sdist and installation hold, what importing costs, environment variables."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.kernels import _cpu

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastcnn.__file__).parent
SHIPPED = ("fastcnn", "tests", "bench", "examples", "tools", "docs")
SOURCES = (".py", ".pyx", ".pxd", ".pyi", ".h", ".c", ".md")
LIMIT_BYTES = 6 << 20


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that imports the fastcnn under test."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("FASTCNN_", "OMP_"))}
    return subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, env=variables | environment,
                          capture_output=True, text=True, timeout=120)


def output_of(code: str, **environment: str) -> str:
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------------------------------------------- import

def test_import_adds_little_to_numpys():
    program = ("from time import process_time as now; start = now(); import numpy; middle = now(); "
               "import fastcnn; print(middle - start, now() - middle)")
    runs = [[float(t) for t in output_of(program, PYTHONDONTWRITEBYTECODE="").split()] for _ in range(8)]
    numpy_time, fastcnn_time = (statistics.median(column) for column in zip(*runs[1:], strict=True))
    assert fastcnn_time < max(0.050, 0.6 * numpy_time)  # the second bound is for slow and busy machines


SLOW = {"PIL", "csv", "dataclasses", "http.client", "json", "matplotlib", "numpy.random", "numpy.typing", "pathlib",
        "safetensors", "tarfile", "tempfile", "tqdm", "urllib.parse", "urllib.request"}
ON_FIRST_USE = {"callbacks.csv_logger", "callbacks.tensorboard", "checkpoints", "datasets", "ops", "plan.plan", "plot",
                "profiling", "reference", "zoo"}


def test_import_leaves_slow_modules_alone():
    loaded = output_of("import numpy, sys; old = {*sys.modules}; import fastcnn; print(*sys.modules.keys() - old)")
    assert (SLOW | {f"fastcnn.{name}" for name in ON_FIRST_USE}).isdisjoint(loaded.split())


def test_lazy_modules_are_there():
    names = ("datasets", "ops", "plot", "reference")
    assert output_of(f"import fastcnn as fc; print(*(getattr(fc, name).__name__ for name in {names}))").split() == [
        f"fastcnn.{name}" for name in names]
    assert {*names, "layers"} <= set(dir(fastcnn))
    with pytest.raises(AttributeError, match="no attribute 'dataset'"):
        fastcnn.dataset  # noqa: B018


def test_lazy_callbacks_are_there():
    names = ("CSVLogger", "TensorBoard")
    assert output_of(f"from fastcnn import callbacks; print(*(getattr(callbacks, name).__name__ for name in {names}))"
                     ).split() == [*names]
    assert set(names) <= set(dir(fastcnn.callbacks))
    with pytest.raises(AttributeError, match="no attribute 'CsvLogger'"):
        fastcnn.callbacks.CsvLogger  # noqa: B018


# --------------------------------------------------------------------------------------------------- sources

def test_lines_are_short():
    """120 characters, but for rows of tables and lines with an address."""
    files = [path for name in SHIPPED for path in (ROOT / name).rglob("*") if path.suffix in SOURCES
             and not re.fullmatch(r"_\w+\.c", path.name)]  # those are Cython's
    long = [f"{path.relative_to(ROOT)}:{number}" for path in [*files, *ROOT.glob("*.md"), *ROOT.glob("*.py")]
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if len(line) > 120 and not line.startswith("|") and "://" not in line]
    assert len(files) > 200 and long == []


# ------------------------------------------------------------------------------------------ compiler and CPU

def test_no_fast_math():
    flags = _cpu.compiler()
    assert "-O2" in flags
    assert "-ffast-math" not in flags and "-Ofast" not in flags


def test_denormals_survive_import_and_kernels():
    fastcnn.ops.conv2d(np.ones((2, 8, 8, 4)), np.ones((3, 3, 4, 8)))
    tiny = np.full(64, 1e-40, np.float32)
    assert (tiny * np.float32(0.5) > 0).all()


@pytest.mark.parametrize("function", ["fc_table", "fc_usable"])
def test_choosing_kernels_needs_no_wide_registers(function):
    """This code runs before anyone knows what the CPU can do."""
    if not shutil.which("objdump"):
        pytest.skip("objdump is not installed")
    listing = subprocess.run(["objdump", "-d", f"--disassemble={function}", _cpu.__file__],
                             capture_output=True, text=True).stdout
    if f"<{function}>:" not in listing:
        pytest.skip(f"no symbol {function} in {_cpu.__file__}")
    assert not re.search(r"%[yz]mm", listing)


def test_an_isa_can_be_forced():
    isa = output_of("from fastcnn.kernels import _cpu; print(_cpu.isa())", FASTCNN_ISA="generic")
    assert isa == "generic"


def test_an_unknown_isa_is_refused_with_the_list():
    error = run_python("import fastcnn", FASTCNN_ISA="avx1024").stderr
    assert "ValueError: FASTCNN_ISA='avx1024'" in error
    assert f"usable here: {', '.join(_cpu.isas())}" in error


@pytest.mark.skipif(not _cpu.openmp(), reason="this build is serial")
def test_the_environment_sets_the_number_of_threads():
    text = output_of("import fastcnn; fastcnn.show_config()", FASTCNN_NUM_THREADS="3")
    assert re.search(r"threads +3 \(from: FASTCNN_NUM_THREADS", text)


def test_the_environment_sets_the_policy_of_algorithms():
    code = "import fastcnn; fastcnn.show_config()"
    assert re.search(r"^algorithms +direct \(", output_of(code, FASTCNN_ALGORITHM_POLICY="direct"), re.MULTILINE)
    error = run_python("import fastcnn", FASTCNN_ALGORITHM_POLICY="fast").stderr
    assert "unknown policy 'fast'" in error


@pytest.mark.parametrize("wanted", ["0", "-1", "1025", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(wanted):
    error = run_python("import fastcnn", FASTCNN_NUM_THREADS=wanted).stderr
    assert f"ValueError: FASTCNN_NUM_THREADS='{wanted}': expected a whole number from 1 to 1024" in error


# ---------------------------------------------------------------------------------------------- installation

@pytest.mark.skipif((PACKAGE / "kernels" / "_cpu.c").exists(), reason="built in place: sources lie beside the modules")
def test_the_installation_is_small():
    size = sum(path.stat().st_size for path in PACKAGE.rglob("*")
               if path.is_file() and "__pycache__" not in path.parts)
    assert 500_000 < size < LIMIT_BYTES


def test_data_and_types_are_installed():
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "datasets" / "data" / "mnist_5k.npz").is_file()
    assert (PACKAGE / "datasets" / "data" / "README.md").is_file()
    assert fastcnn.__version__ in (ROOT / "pyproject.toml").read_text()


DRIVERS = sorted(path.stem for path in (ROOT / "fastcnn" / "kernels").glob("*.pyx"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_stubs_describe_the_drivers(driver):
    """Every name of the stub exists, and its functions and classes take these arguments."""
    module = importlib.import_module(f"fastcnn.kernels.{driver}")
    stub = ast.parse((PACKAGE / "kernels" / f"{driver}.pyi").read_text())
    described = 0
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            assert arguments(node) == documented(getattr(module, node.name)), node.name
        elif isinstance(node, ast.ClassDef):
            cls = getattr(module, node.name)
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    assert_member(cls, member)
        elif isinstance(node, ast.AnnAssign):
            assert hasattr(module, node.target.id)
        described += isinstance(node, (ast.FunctionDef, ast.ClassDef))
    assert described


def assert_member(cls, stub: ast.FunctionDef) -> None:
    member, where = getattr(cls, stub.name), f"{cls.__name__}.{stub.name}"
    if type(member).__name__ == "wrapper_descriptor":  # __init__ of an extension type
        assert arguments(stub)[1:] == documented(cls), where
    elif callable(member):  # else a property
        assert arguments(stub) == documented(member), where


def arguments(node: ast.FunctionDef) -> list[str]:
    a = node.args
    return [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def documented(thing) -> list[str]:
    """Names of the arguments in `name(Type a, b: int, c=(0, 0), *, d)`, as Cython begins docstrings."""
    inside = (thing.__doc__ or "").splitlines()[0].partition("(")[2].rpartition(")")[0]
    while (flat := re.sub(r"\([^()]*\)", "", inside)) != inside:  # defaults that are tuples
        inside = flat
    names = [re.split("[=:]", part)[0].split()[-1] for part in inside.split(",") if part.strip()]
    return [name for name in names if name != "*"]


# ----------------------------------------------------------------------------------------------------- sdist

def copy_of_sources(folder: Path) -> Path:
    """What git would hold, with a generated C file and a compiled module as builds in place leave them."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", ".*_cache")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, folder)
    (folder / "fastcnn" / "kernels" / "_conv.c").write_text("/* Generated by Cython */")
    (folder / "fastcnn" / "kernels" / "_conv.so").write_bytes(b"")
    return folder


def build_sdist(sources: Path, target: Path) -> Path:
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", target, sources])
    return next(target.glob("fastcnn-*.tar.gz"))


def run(command, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    sources = copy_of_sources(tmp_path_factory.mktemp("sources"))
    return build_sdist(sources, tmp_path_factory.mktemp("sdist"))


def test_the_sdist_holds_all_sources_and_nothing_generated(sdist):
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = {str(path.relative_to(ROOT)) for name in SHIPPED for path in (ROOT / name).rglob("*")
              if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc")}
    wanted = {name for name in wanted if not re.fullmatch(r"fastcnn/kernels/_\w+\.c", name)}
    wanted |= {"setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "MANIFEST.in"}
    assert wanted <= names
    for name in ("fastcnn/kernels/_gather.pyx", "fastcnn/kernels/_op.pxd", "fastcnn/kernels/_op.pyi",
                 "fastcnn/kernels/csrc/tile.h", "fastcnn/kernels/csrc/kernels_avx512.c", "tests/check.py"):
        assert name in names
    assert not [name for name in names if re.fullmatch(r"fastcnn/kernels/[^/]*\.c|.*\.(so|pyc)", name)]


def test_other_compilers_are_refused_with_a_reason(tmp_path):
    """MSVC has no vector types; on Linux another compiler's name stands in for it."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    done = subprocess.run([sys.executable, "setup.py", "build_ext", "--compiler=mingw32"], text=True,
                          cwd=copy_of_sources(tmp_path), capture_output=True)
    assert done.returncode != 0
    if "Cygwin" in done.stderr:
        pytest.skip("this setuptools cannot stand in for another compiler")
    assert "fastcnn needs GCC or Clang" in done.stderr


@pytest.mark.slow
def test_a_serial_wheel_from_the_sdist_passes_the_tests(sdist, tmp_path):
    """Built without OpenMP, from the sdist alone, in a fresh virtual environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run([python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, sdist],
        env=os.environ | {"FASTCNN_OPENMP": "0"})
    wheel = next(tmp_path.glob("fastcnn-*.whl"))
    assert wheel.stat().st_size < LIMIT_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert not [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxd", ".pyc"))]
    assert names > {"fastcnn/py.typed", "fastcnn/kernels/_gather.pyi", "fastcnn/datasets/data/mnist_5k.npz"}

    run([python, "-m", "pip", "install", f"{wheel}[test]"])
    text = run([python, "-c", "import fastcnn; fastcnn.show_config()"], cwd=tmp_path)
    assert "no: this build is serial" in text and "-fopenmp" not in text
    assert re.search(r"threads +1 \(from: built without OpenMP", text)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / sdist.name.removesuffix(".tar.gz")
    run([python, "-m", "pytest", "-q", "tests/test_package.py", "tests/test_kernels_pool.py"], cwd=folder)

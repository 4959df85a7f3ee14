"""Build of the compiled engine: Cython drivers, and one C kernel source compiled once per instruction set.

Environment switches: FASTCNN_OPENMP=0 builds the serial engine; FASTCNN_SANITIZE=1 adds the address and
undefined-behaviour sanitizers, for running the tests with libasan preloaded.
"""

import os
import platform
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

KERNELS = Path("fastcnn/kernels")
CSRC = KERNELS / "csrc"

# Source -> the compiler flags of that one file. `generic` uses the baseline and always builds.
X86 = {
    "kernels_generic.c": [],
    "kernels_avx2.c": ["-mavx2", "-mfma"],
    "kernels_avx512.c": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
}
ARM64 = {"kernels_generic.c": [], "kernels_neon.c": []}
ISAS = {"x86_64": X86, "AMD64": X86, "aarch64": ARM64, "arm64": ARM64}

# Never -ffast-math: linking with it changes denormal handling in the whole host process.
# -O2: at -O3 gcc may move a tile's accumulators from registers to the stack.
# Loops start on a cache line: the tiles' are some 350 bytes long, which keeps the instruction fetch busy as it is.
C_FLAGS = ["-O2", "-g0", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
           "-falign-loops=64"]
# -O1: with the sanitizers' checks in every tile, -O2 takes minutes for AVX-512.
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer"]

# The loops of drivers call kernels and copy memory, the rest of them calls Python: -O2 gains nothing there and takes
# half as long again.
DRIVER_FLAGS = [*C_FLAGS, "-O1"]

# Neither `binding`, which makes functions look like Python's, nor pickling: a quarter of the code.
CYTHON = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
          "initializedcheck": False, "embedsignature": True, "binding": False, "auto_pickle": False}


class BuildKernels(build_ext):
    """build_ext that adds per-source instruction-set flags, drops what the compiler cannot build, and keeps all cores
    busy: the kernels of all instruction sets and the drivers are compiled side by side, while Cython translates."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or getattr(os, "process_cpu_count", os.cpu_count)()
        self.translating = threading.Lock()

    def build_extensions(self):
        if self.compiler.compiler_type != "unix":
            raise PlatformError(f"fastcnn needs GCC or Clang, for the vector types of its kernels; "
                                f"{self.compiler.compiler_type!r} has none. On Windows, use WSL.")
        isas = {name: flags for name, flags in ISAS.get(platform.machine(), {"kernels_generic.c": []}).items()
                if not flags or self.compiles(flags)}
        wanted = os.environ.get("FASTCNN_OPENMP") != "0"
        openmp = ["-fopenmp"] if wanted and self.compiles(["-fopenmp"]) else []
        sanitize = SANITIZE if os.environ.get("FASTCNN_SANITIZE") == "1" else []
        cpu = next(e for e in self.extensions if e.name.endswith("._cpu"))
        strip = ["-s"] if sys.platform == "linux" and not sanitize else []  # names of local functions
        for extension in self.extensions:
            extension.extra_compile_args = DRIVER_FLAGS + openmp + sanitize
            extension.extra_link_args = openmp + sanitize + (strip if extension is not cpu else [])
        cpu.sources += [str(CSRC / name) for name in isas]
        cpu.define_macros += [(f"FC_HAVE_{name[8:-2].upper()}", "1") for name in isas]
        cpu.define_macros += [("FC_FLAGS", '"' + " ".join(C_FLAGS + openmp + sanitize) + '"')]
        self.compile_each({name: C_FLAGS + flags + openmp + sanitize for name, flags in isas.items()})
        super().build_extensions()

    def build_extension(self, extension):
        """Cython to C, in the build folder; here, not in `setup()`, so that an sdist holds the .pyx files."""
        with self.translating:
            extension.sources = cythonize([extension], build_dir=self.build_temp, compiler_directives=CYTHON)[0].sources
        super().build_extension(extension)

    def compile_each(self, flags):
        """Makes the compiler take the sources of an extension at once, each with its own flags if it has some."""
        compile_all = self.compiler.compile

        def compile_each(sources, *, extra_postargs, **options):
            def compile_one(source):
                return compile_all([source], extra_postargs=flags.get(os.path.basename(source), extra_postargs),
                                   **options)

            with ThreadPoolExecutor(self.parallel) as pool:
                return [built for objects in pool.map(compile_one, sources) for built in objects]

        self.compiler.compile = compile_each

    def compiles(self, flags):
        """Whether the compiler and linker take `flags`."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text("int main(void) { return 0; }\n")
            command = [*self.compiler.compiler_so, *flags, str(source), "-o", str(Path(folder) / "probe")]
            return subprocess.run(command, capture_output=True).returncode == 0


def extension(driver):
    return Extension(
        f"fastcnn.kernels.{driver.stem}",
        [str(driver)] + ([str(CSRC / "dispatch.c")] if driver.stem == "_cpu" else []),
        include_dirs=[str(CSRC)],
        depends=[str(path) for path in sorted(CSRC.glob("*.h"))],
    )


# _cpu first: it holds the kernels of all instruction sets and takes longest.
drivers = sorted(KERNELS.glob("*.pyx"), key=lambda path: (path.stem != "_cpu", path))
setup(ext_modules=[extension(driver) for driver in drivers], cmdclass={"build_ext": BuildKernels})

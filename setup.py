"""Build of the compiled engine: Cython drivers, and one C kernel source compiled once per instruction set.

Environment switches: FASTCNN_OPENMP=0 builds the serial engine, FASTCNN_SANITIZE=1 adds the address and
undefined-behaviour sanitizers.
"""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("fastcnn/kernels")
CSRC = KERNELS / "csrc"
DRIVERS = ("_op", "_executor", "_conv", "_depthwise", "_pool", "_eltwise", "_loss", "_optim", "_load", "_probe")

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
C_FLAGS = ["-O2", "-g0", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]


class BuildKernels(build_ext):
    """build_ext that adds per-source instruction-set flags and drops what the compiler cannot build."""

    def build_extensions(self):
        isas = {name: flags for name, flags in ISAS.get(platform.machine(), {"kernels_generic.c": []}).items()
                if not flags or self.compiles(flags)}
        openmp = ["-fopenmp"] if os.environ.get("FASTCNN_OPENMP") != "0" and self.compiles(["-fopenmp"]) else []
        sanitize = SANITIZE if os.environ.get("FASTCNN_SANITIZE") == "1" else []
        for extension in self.extensions:
            extension.extra_compile_args = C_FLAGS + openmp + sanitize
            extension.extra_link_args = openmp + sanitize
        cpu = next(e for e in self.extensions if e.name.endswith("._cpu"))
        cpu.sources += [str(CSRC / name) for name in isas]
        cpu.define_macros += [(f"FC_HAVE_{name[8:-2].upper()}", "1") for name in isas]
        cpu.define_macros += [("FC_FLAGS", '"' + " ".join(C_FLAGS + openmp + sanitize) + '"')]
        self.add_source_flags(isas)
        super().build_extensions()

    def add_source_flags(self, isas):
        compile_one = self.compiler._compile

        def compile_with_isa(obj, src, ext, cc_args, extra, pp_opts):
            compile_one(obj, src, ext, cc_args, extra + isas.get(os.path.basename(src), []), pp_opts)

        self.compiler._compile = compile_with_isa

    def compiles(self, flags):
        """Whether the compiler and linker take `flags`."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text("int main(void) { return 0; }\n")
            command = [*self.compiler.compiler_so, *flags, str(source), "-o", str(Path(folder) / "probe")]
            return subprocess.run(command, capture_output=True).returncode == 0


def extension(name, sources=()):
    return Extension(
        f"fastcnn.kernels.{name}",
        [str(KERNELS / f"{name}.pyx"), *map(str, sources)],
        include_dirs=[str(CSRC), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=[str(path) for path in sorted(CSRC.glob("*.h"))],
    )


drivers = [name for name in DRIVERS if (KERNELS / f"{name}.pyx").exists()]
setup(
    ext_modules=cythonize(
        [extension("_cpu", [CSRC / "dispatch.c"])] + [extension(name) for name in drivers],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False,
                             "cdivision": True, "initializedcheck": False, "embedsignature": True},
    ),
    cmdclass={"build_ext": BuildKernels},
)

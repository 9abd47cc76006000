"""From programs to code that runs: C++ for the compiled core, array functions for NumPy and PyTorch."""

from .arrays import emit_arrays
from .cpp import emit_cpp
from .numpy_loops import NumpyFunction, dot_is_fused, numpy_functions
from .runtime import ArrayProgram, Result, compile_arrays
from .simplify import check, simplify

__all__ = [
    "ArrayProgram",
    "NumpyFunction",
    "Result",
    "check",
    "compile_arrays",
    "dot_is_fused",
    "emit_arrays",
    "emit_cpp",
    "numpy_functions",
    "simplify",
]

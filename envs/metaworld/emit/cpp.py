"""Write programs as C++: one function each, one statement per operation, named after upstream's variables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.envs.metaworld.program import DType, Node, Program, Read

from .numpy_loops import dot_is_fused, dot_lengths
from .semantics import TRANSCENDENTAL
from .simplify import simplify

PROGRAMS_PER_FILE = 8
"""Files are compiled in parallel."""

_CTYPE: Mapping[DType, str] = {"f64": "double", "f32": "float", "i64": "std::int64_t", "bool": "bool"}

_INFIX: Mapping[str, str] = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "eq": "==", "ne": "!=",
    "and": "&&", "or": "||",
}  # fmt: skip

_PREFIX: Mapping[str, str] = {"neg": "-", "not": "!"}

_CALL: Mapping[str, str] = {
    "abs": "std::abs",
    "sqrt": "std::sqrt",
    "pow": "power",
    **{op: f"program::{op}" for op in (*TRANSCENDENTAL, "minimum", "maximum")},
}


def emit_cpp(programs: Sequence[Program]) -> dict[str, str]:
    """Return the C++ of programs: file name -> text.

    `program.hpp` declares what a core calls (`find_program`, `set_numpy_functions`), the `.cpp` files define it; they
    need MuJoCo's headers and `-ffp-contract=off`. The text follows from the programs and from how NumPy rounds inner
    products here, so its hash is a key for what was compiled from it.

    Raises:
        ConfigError: if a program breaks a rule of `program.py`, or NumPy's inner product cannot be reproduced.
    """
    programs = [simplify(program) for program in programs]
    fused = dot_is_fused(dot_lengths(programs))
    header = (Path(__file__).parent / "program.hpp").read_text(encoding="utf-8")
    files = {"program.hpp": f"#define METARL_DOT_FMA {int(fused)}\n{header}", "programs.cpp": _table(programs)}
    for i in range(0, len(programs), PROGRAMS_PER_FILE):
        functions = [_function(program) for program in programs[i : i + PROGRAMS_PER_FILE]]
        text = '#include "program.hpp"\n\nusing namespace program;\n\n' + "\n".join(functions)
        files[f"programs_{i // PROGRAMS_PER_FILE:02d}.cpp"] = text
    return files


def _table(programs: Sequence[Program]) -> str:
    parameters = "const mjModel*, const mjData*, const float*, double*, double*, double*"
    declarations = "\n".join(f'extern "C" void {program.key}({parameters});' for program in programs)
    entries = "\n".join(f'    {{"{program.key}", {program.key}}},' for program in programs)
    return f"""#include <cstring>

#include "program.hpp"

{declarations}

namespace {{
struct Entry {{
  const char* key;
  ProgramFunction run;
}};
const Entry entries[] = {{
{entries}
    {{nullptr, nullptr}},
}};
}}  // namespace

NumpyFunction program::numpy_functions[2 * program::N_FUNCTIONS] = {{}};

extern "C" void set_numpy_functions(const NumpyFunction* functions) {{
  std::memcpy(program::numpy_functions, functions, sizeof program::numpy_functions);
}}

extern "C" ProgramFunction find_program(const char* key) {{
  for (const Entry* entry = entries; entry->key; ++entry)
    if (!std::strcmp(entry->key, key)) return entry->run;
  return nullptr;
}}
"""


def _function(program: Program) -> str:
    names = [_name(i, node) for i, node in enumerate(program.nodes)]
    lines = [
        f"// {program.task}, reward {program.reward_version}",
        f'extern "C" void {program.key}(const mjModel* m, const mjData* d, const float* action, double* slots,',
        f"{' ' * len(f'extern {chr(34)}C{chr(34)} void {program.key}(')}double* obs, double* out) {{",
        *(f"  {line}" for line in _statements(program, names)),
        *(f"  obs[{k}] = {names[i]};" for k, i in enumerate(program.obs)),
        f"  out[0] = {names[program.reward]};",
        *(f"  out[{k}] = {names[i]};" for k, i in enumerate(program.info, start=1)),
        *(f"  slots[{slot}] = {names[i]};" for slot, i in program.updates),
        "  (void)m, (void)d, (void)action, (void)slots;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _statements(program: Program, names: Sequence[str]) -> Iterator[str]:
    source = ""
    for node, name in zip(program.nodes, names, strict=True):
        if node.op == "const":
            continue
        if node.source and node.source != source:
            source = node.source
            yield f"// {source}"
        comment = ""
        if node.op == "read" and program.reads[node.index].name:
            comment = f"  // {program.reads[node.index].name}"
        yield f"const {_CTYPE[node.dtype]} {name} = {_expression(program, node, names)};{comment}"


def _name(i: int, node: Node) -> str:
    """Return how other statements refer to a node: constants by value, the rest by a variable."""
    if node.op == "const":
        return literal(node.value, node.dtype)
    label = re.sub(r"\W+", "_", node.label).strip("_")
    return f"{label}_{i}" if label and not label[0].isdigit() else f"v{label}_{i}" if label else f"v{i}"


def _expression(program: Program, node: Node, names: Sequence[str]) -> str:
    args = [names[arg] for arg in node.args]
    if node.op == "read":
        return _read(program.reads[node.index])
    if node.op in ("slot", "action"):
        return f"{'slots' if node.op == 'slot' else 'action'}[{node.index}]"
    if node.op in _INFIX:
        return f"{args[0]} {_INFIX[node.op]} {args[1]}"
    if node.op in _PREFIX:
        return f"{_PREFIX[node.op]}{args[0]}"
    if node.op in _CALL:
        return f"{_CALL[node.op]}({', '.join(args)})"
    if node.op == "dot":
        half = len(args) // 2
        return f"dot({{{', '.join(args[:half])}}}, {{{', '.join(args[half:])}}})"
    if node.op == "select":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    return _cast(args[0], program.nodes[node.args[0]].dtype, node.dtype)


def _read(read: Read) -> str:
    if read.field == "touching":
        return f"touching(d, {read.pads[0]}, {read.pads[1]}, {read.index})"
    field = read.field.removeprefix("model.")
    return f"{'d' if field == read.field else 'm'}->{field}[{read.index}]"


def _cast(arg: str, old: DType, new: DType) -> str:
    if new == "bool":
        return f"{arg} != 0"
    if new == "i64" and old in ("f64", "f32"):
        return f"to_i64({arg})"
    return f"static_cast<{_CTYPE[new]}>({arg})"


def literal(value: Any, dtype: DType) -> str:
    """Return a C++ expression of exactly this value and type."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "i64":
        low = -(2**63)
        return "std::numeric_limits<std::int64_t>::min()" if value == low else f"std::int64_t({int(value)})"
    number = np.float32(value) if dtype == "f32" else np.float64(value)
    if not math.isfinite(number):
        name = "quiet_NaN" if math.isnan(number) else "infinity"
        text = f"std::numeric_limits<{_CTYPE[dtype]}>::{name}()"
        return f"(-{text})" if number < 0 else text
    text = f"{number!s}{'f' if dtype == 'f32' else ''}"
    return f"({text})" if text.startswith("-") else text

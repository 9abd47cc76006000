#!/usr/bin/env bash
# Compile the Meta-World engine if there is a C++ compiler: $CXX, else the first of g++, c++, clang++. Called by make with
# the stamp to leave behind; without one make calls again, so a compiler that is installed later is found. Never fatal:
# without the engine these worlds step in Python.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
stamp=$1
told=$venv/.engine-missing

if ! command -v ${CXX:-g++} >/dev/null && { [ -n "${CXX:-}" ] || ! command -v c++ clang++ >/dev/null; }; then
    [ -e "$told" ] || echo "no C++ compiler: Meta-World steps in Python, slower, with the same results" \
        "(Debian: apt-get install g++; the next make compiles)"
    touch "$told"
    exit 0
fi
echo "compiling the Meta-World engine (a minute)"
if "$venv/bin/python" -W ignore -m metarl.envs.metaworld.precompile; then
    rm -f "$told"
    touch "$stamp"
fi

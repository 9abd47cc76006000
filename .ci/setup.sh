#!/usr/bin/env bash
# Make the virtual environment with everything the project needs, all but the compiled engine (see engine.sh). Called by
# `make setup`; safe to run again and to interrupt.
#
# Needs Python 3.11, 3.12 or 3.13 and either its venv module or pip. Reads from the environment:
#   VENV      where it goes                    (default: .venv)
#   PYTHON    interpreter to build on          (default: the first of python3, python3.13, ... that fits)
#   TORCH     what to ask pip for              (default: the version in constraints.txt)
#   PIP_ARGS  more arguments for that one line (default: none), e.g. --index-url ... for another build of torch
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
ready=$venv/.ready
unfinished=$venv/.unfinished

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1 || true); this project needs 3.11, 3.12 or 3.13"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (python3 is: $(python3 --version 2>&1 | head -n 1 || true));" \
        "install one (Debian: apt-get install python3 python3-pip) or name it: make setup PYTHON=/path/to/python3.11"
}

make_venv() {
    # Debian's python3 has venv but, without python3-venv, not the pip that belongs inside.
    if "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        "$1" -m venv "$venv"
    elif "$1" -m pip --version >/dev/null 2>&1; then
        echo "$1 cannot make a complete venv by itself; fetching virtualenv into .setup"
        # --target installs beside the system, so this is fine on an externally managed Python as well.
        "$1" -m pip install --quiet --upgrade --target .setup virtualenv
        PYTHONPATH=.setup "$1" -m virtualenv --quiet "$venv"
    else
        fail "$1 has neither ensurepip nor pip; install one (Debian: apt-get install python3-pip)"
    fi
}

# A run that was cut off leaves its mark; what it left behind cannot be trusted. A venv made by hand has no mark.
if [ -e "$unfinished" ]; then
    echo "the last set-up did not finish; starting afresh"
    rm -rf "$venv"
elif [ -e "$venv" ] && ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "$venv has no working Python any more; starting afresh"
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    python=$(find_python)
    mkdir "$venv"
    touch "$unfinished"
    make_venv "$python"
elif ! fits "$venv/bin/python"; then
    fail "$venv holds $("$venv/bin/python" --version 2>&1); remove it and run 'make setup' again"
fi
rm -f "$ready"
touch "$unfinished"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# torch comes first and alone, and is no constraint afterwards: whichever build is chosen here stays.
versions=$venv/constraints.txt
grep -v '^torch==' constraints.txt >"$versions"
echo "installing torch and about 90 packages (a few minutes)"
# shellcheck disable=SC2086  # PIP_ARGS is several words on purpose
pip install --quiet --constraint "$versions" ${PIP_ARGS:-} "${TORCH:-$(grep '^torch==' constraints.txt)}"
pip install --quiet --constraint "$versions" --editable '.[dev]'

"$venv/bin/python" - <<'PYTHON'
import gymnasium, torch

device = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU only"
print(f"ready: torch {torch.__version__} ({device}), gymnasium {gymnasium.__version__}")
PYTHON
rm -f "$unfinished"
touch "$ready"

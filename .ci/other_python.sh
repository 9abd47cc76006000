#!/usr/bin/env bash
# Run the test suite on another Python than that of .venv, the newest that is at hand, in a virtual environment of its
# own. "At hand": an interpreter on the PATH, or one of pyenv's, for which pip gets everything in time. Says what it did;
# fails if a test does, or a set-up for which torch itself was to be had.
#
# Reads from the environment:
#   OTHER_PYTHON   the interpreter, or "none" to leave this out   (default: looks for one)
#   OTHER_LIMIT_S  seconds that the set-up may take               (default: 1800)
#   SUITE_S        seconds that the suite takes on this machine   (default: 900)
#   LEFT_S         seconds that are left for all of this          (default: 7200)
set -euo pipefail
cd "$(dirname "$0")/.."

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
skip() {
    echo "other Python: not tested, $*"
    exit 0
}

first=$(version .venv/bin/python)
other=${OTHER_PYTHON:-}
[ "$other" != none ] || skip "OTHER_PYTHON is none"
if [ -z "$other" ]; then
    homes=$(command -v pyenv >/dev/null && pyenv root || true)
    for wanted in 3.13 3.12 3.11; do
        [ "$wanted" != "$first" ] || continue
        for candidate in "python$wanted" ${homes:+"$homes"/versions/"$wanted".*/bin/python}; do
            # A shim on the PATH need not lead anywhere: what counts is what it answers.
            if [ "$(version "$candidate")" = "$wanted" ]; then
                other=$candidate
                break 2
            fi
        done
    done
    [ -n "$other" ] || skip "no other of 3.11, 3.12, 3.13 here than $first"
fi

venv=.venv-$(version "$other")
echo "other Python: $("$other" --version) into $venv"
limit=${OTHER_LIMIT_S:-1800}
code=0
VENV=$venv PYTHON=$other timeout "$limit" make setup || code=$?
[ "$code" != 124 ] || skip "its set-up was not done within $limit s"
if [ "$code" != 0 ]; then
    # Torch comes first: without it this Python was not at hand, with it our own dependencies are at fault.
    if "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        echo "other Python: torch is there, the rest of the set-up failed" >&2
        exit 1
    fi
    rm -rf "$venv"
    skip "pip cannot get torch for $other here"
fi
left=$((${LEFT_S:-7200} - SECONDS))
if [ "$left" -gt $((${SUITE_S:-900} * 3 / 2)) ]; then
    VENV=$venv make coverage
else
    echo "other Python: $left s are left, too few for the whole suite; the kernel's tests run"
    "$venv/bin/python" -m pytest tests/metarl
fi

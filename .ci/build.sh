#!/usr/bin/env bash
# Build wheel and sdist and install each, without dependencies, in a bare environment that borrows torch and the rest
# from .venv. Called by `make build`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=$root/.venv/bin/python
borrowed=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

rm -rf build dist
"$python" -m build --no-isolation --outdir dist . >/dev/null
# The third is an editable install, as `make setup` makes one.
for package in dist/*.whl dist/*.tar.gz .; do
    bare=$root/build/bare-$([ "$package" = . ] && echo editable || echo "${package##*.}")
    # --without-pip: works without ensurepip too. A path on PYTHONPATH does not run the .pth files in it, so the
    # editable install of this checkout stays out of sight.
    "$python" -m venv --without-pip "$bare"
    "$python" -m pip --disable-pip-version-check --python "$bare/bin/python" install --quiet --no-deps \
        $([ "$package" != . ] || echo --editable) "$package"
    from=$([ "$package" = . ] && echo "$root" || echo "$bare")
    (cd build && PYTHONPATH="$borrowed" "$bare/bin/python" "$root/.ci/smoke.py" "$bare" "$from")
    echo "$package: installs and runs"
done

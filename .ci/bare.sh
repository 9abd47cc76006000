#!/usr/bin/env bash
# What a stranger meets: a minimal Debian with python3-venv and make, a user without rights, a fresh clone of the last
# commit; no compiler, OpenGL, browser, git, locale or /dev/shm. Runs the given make targets there, one after the other.
#
#   sudo .ci/bare.sh [TARGET ...]        default: demo test; needs root, debootstrap, git
#
# Reads from the environment:
#   BARE_PACKAGES  more packages to install, e.g. "g++"                       (default: none)
#   BARE_SHM       yes: give it a /dev/shm                                    (default: no)
#   BARE_ROOT      folder for the system, kept between calls    (default: .bare/debian, and the packages' names)
#   BARE_SUITE, BARE_MIRROR  what debootstrap fetches                         (default: bookworm, debootstrap's own)
#   BARE_BIND      files and folders of this machine that are needed there as well, e.g. a pip.conf   (default: none)
#   PIP_*, TORCH   as for `make setup`, and for pip itself
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
packages=${BARE_PACKAGES:-}
system=$(realpath -m "${BARE_ROOT:-.bare/debian${packages:+-${packages// /-}}}")
targets=("$@")
[ $# -gt 0 ] || targets=(demo test)

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || fail "debootstrap and chroot need root; call it with sudo"
command -v debootstrap >/dev/null || fail "debootstrap is missing (Debian: apt-get install debootstrap)"
# A mount namespace of our own: whatever is mounted below vanishes with this process.
[ -n "${BARE_INSIDE:-}" ] || BARE_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"

if [ ! -e "$system/.complete" ]; then
    rm -rf --one-file-system "$system"
    mkdir -p "$system"
    # shellcheck disable=SC2086  # an absent mirror is no word
    debootstrap --variant=minbase "${BARE_SUITE:-bookworm}" "$system" ${BARE_MIRROR:-} >"$system.log" ||
        fail "debootstrap failed; see $system.log"
    touch "$system/.complete"
fi
mount -t proc proc "$system/proc"

lend() {
    [ -e "$1" ] || fail "BARE_BIND names $1, which does not exist"
    if [ -d "$1" ]; then mkdir -p "$system$1"; else mkdir -p "$(dirname "$system$1")" && touch "$system$1"; fi
    mount --bind "$1" "$system$1"
    mount -o remount,bind,ro "$system$1"
}
lend /etc/resolv.conf
lend /etc/hosts

chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -ec "
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends make python3-venv $packages >/dev/null
    id visitor >/dev/null 2>&1 || useradd --create-home visitor"
for path in ${BARE_BIND:-}; do lend "$path"; done

rm -rf "$system/dev/shm"
if [ "${BARE_SHM:-no}" = yes ]; then
    mkdir "$system/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$system/dev/shm"
fi

home=/home/visitor
rm -rf --one-file-system "$system$home"
mkdir "$system$home"
git -c safe.directory="$checkout" clone --quiet --no-hardlinks "$checkout" "$system$home/metarl"
chroot "$system" chown -R visitor: "$home"

settings=(HOME="$home" USER=visitor PATH=/usr/local/bin:/usr/bin:/bin)
while IFS= read -r name; do settings+=("$name=${!name}"); done < <(compgen -v | grep -E '^(PIP_.*|TORCH)$')
for target in "${targets[@]}"; do
    echo "== make $target, compiler: $(chroot "$system" sh -c 'command -v g++ c++ || echo none' | head -n 1)"
    began=$SECONDS
    chroot --userspec=visitor "$system" env -i "${settings[@]}" sh -c "cd $home/metarl && make $target"
    echo "== make $target: passed in $((SECONDS - began)) s; .venv holds $(du -sh "$system$home/metarl/.venv" | cut -f1)"
done

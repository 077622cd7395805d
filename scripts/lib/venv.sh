# shellcheck shell=bash
# Sourced by the scripts in the folder above: where the project is, and a virtual environment filled from the lock files.
# Needs Python 3.11 or newer with venv or pip, and nothing else. PYTHON chooses the interpreter.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
VENV=$ROOT/.venv

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer: install it, or name it in PYTHON"
}

# What has to change for an environment to be out of date: the lock files, the package's metadata, the interpreter, the folder.
fingerprint() {
    { cat -- "$@" "$ROOT/pyproject.toml" && "$VENV/bin/python" -VV && printf '%s' "$ROOT"; } | sha256sum | cut -d' ' -f1
}

make_venv() {
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    # Debian splits ensurepip off into python3-venv; where it is missing, the pip that is there fills the environment.
    "$python" -m venv "$VENV" >/dev/null 2>&1 || "$python" -m venv --clear --without-pip "$VENV" ||
        fail "can't make a virtual environment with $python"
}

venv_pip() {
    if "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        "$VENV/bin/python" -m pip "$@"
    else
        "$(find_python)" -m pip --python "$VENV/bin/python" "$@"
    fi
}

locks_of() {
    case $1 in
    run) printf '%s\n' "$ROOT/requirements.txt" "$ROOT/requirements-build.txt" ;;
    dev) printf '%s\n' "$ROOT/requirements-dev.txt" ;; # the same versions and more: scripts/lock sees to that
    esac
}

is_current() {
    local locks
    mapfile -t locks < <(locks_of "$1")
    [[ -f $VENV/sidegate-$1 && $(<"$VENV/sidegate-$1") == "$(fingerprint "${locks[@]}")" ]]
}

# use_venv run|dev: .venv holds this package (editable) and what it needs. Quick when that is so already.
use_venv() {
    local locks
    if command -v flock >/dev/null; then # two scripts must not fill it at once
        mkdir -p "$ROOT/.cache"
        exec 9>"$ROOT/.cache/venv.lock"
        flock 9
    fi
    "$VENV/bin/python" -c 'pass' 2>/dev/null || make_venv
    if ! is_current dev && ! is_current "$1"; then
        mapfile -t locks < <(locks_of "$1")
        say "installing what ${locks[*]##*/} say"
        rm -f -- "$VENV"/sidegate-*
        # --only-binary: an sdist runs its author's code when it is installed.
        venv_pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: "${locks[@]/#/--requirement=}"
        # setuptools warns of every editable installation.
        PYTHONWARNINGS=ignore venv_pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable "$ROOT"
        fingerprint "${locks[@]}" >"$VENV/sidegate-$1"
    fi
    exec 9>&-
}

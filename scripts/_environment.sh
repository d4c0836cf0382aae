# Sourced by the scripts: makes the virtual environment .venv when it is missing or out of date.
# Usage: prepare_environment EXTRAS, with EXTRAS such as "dev" or "".

prepare_environment() {
    local root extras stamp wanted
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    extras="$1"
    stamp="$root/.venv/.stillsun-${extras:-plain}"
    cd "$root" || return 1
    local python="${PYTHON:-python3}"
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer is needed; found $("$python" --version 2>&1). Set PYTHON to another one." >&2
        return 2
    fi
    wanted="$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest(), sys.version_info[:2])')"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Preparing the virtual environment .venv (a minute or two the first time) ..." >&2
        [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
        .venv/bin/python -m pip install -qq --disable-pip-version-check --upgrade pip || return 1
        .venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".${extras:+[$extras]}" || return 1
        echo "$wanted" > "$stamp"
    fi
    PATH="$root/.venv/bin:$PATH"
    export PATH
}

#!/bin/sh
# Makes the virtual environment named by $1 with $PYTHON, else with the first Python that will do
# among those on PATH. The lock holds for 3.11 and newer; the oldest is taken where it is, as it is tested most.
set -eu

venv=$1

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if recent "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

if [ -n "${PYTHON:-}" ]; then
    if ! recent "$PYTHON"; then
        echo "PYTHON=$PYTHON does not run or is $("$PYTHON" --version 2>&1 || true):" \
            "Tallymesh needs Python 3.11 or newer." >&2
        exit 2
    fi
else
    for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
        if recent "$candidate"; then
            PYTHON=$candidate
            break
        fi
    done
fi
if [ -z "${PYTHON:-}" ]; then
    echo "No Python 3.11 or newer on PATH (python3 is $(python3 --version 2>&1 || true))." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2
    exit 2
fi

echo "Making $venv with $("$PYTHON" --version)"
if ! "$PYTHON" -m venv --clear "$venv"; then
    echo "$PYTHON cannot make virtual environments." \
        "On Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
fi

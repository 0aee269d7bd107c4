#!/usr/bin/env bash
# Takes a Google Cloud project to a running flowhook, again and again, and away from it. `./deploy.sh --help`.
#
# Only finds or makes the virtual environment, or takes the Python that PYTHON names; `flowhook/deploy/` does the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -z ${PYTHON-} ]]; then
    PYTHON=.venv/bin/python
    make --silent .venv/.running >&2 || {
        echo "deploy.sh: the virtual environment can't be made; the lines above say why" >&2
        exit 1
    }
    # The handlers are imported before they are deployed, with what they require of packages.
    required=handlers/requirements.txt installed=.venv/.handlers-installed
    if [[ -f $required && ( ! -f $installed || $required -nt $installed ) ]]; then
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt -r "$required" >&2 || {
            echo "deploy.sh: $required can't be installed beside requirements.txt; the lines above say why" >&2
            exit 1
        }
        touch "$installed"
    fi
fi

# Of nobody's business here: what would have this Python run other code than the folder's.
unset PYTHONPATH PYTHONSTARTUP PYTHONHOME
exec "$PYTHON" -m flowhook deploy "$@"

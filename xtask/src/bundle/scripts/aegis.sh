#!/bin/sh
# Starts aegis with the libraries of this folder, wherever the folder lies.
here=$(dirname -- "$(readlink -f -- "$0")") || exit 70
AEGIS_CACHE=${AEGIS_CACHE:-$here/cache}
export AEGIS_CACHE
exec "$here/bin/aegis" "$@"

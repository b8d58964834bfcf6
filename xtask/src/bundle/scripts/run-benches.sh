#!/bin/sh
# Runs the bench programs of this folder; arguments go to each of them.
# Reports go to the folder named by CRITERION_HOME, else to bench-reports beside this script.
here=$(dirname -- "$(readlink -f -- "$0")") || exit 2
AEGIS_CACHE=${AEGIS_CACHE:-$here/cache}
CRITERION_HOME=${CRITERION_HOME:-$here/bench-reports}
export AEGIS_CACHE CRITERION_HOME
worst=0
for program in "$here"/benches/*; do
    echo "== ${program##*/}"
    "$program" --bench "$@" || { echo "${program##*/}: ended with exit code $?" >&2; worst=1; }
done
exit $worst

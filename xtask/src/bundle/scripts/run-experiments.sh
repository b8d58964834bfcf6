#!/bin/sh
# Runs the experiments on a GPU one after the other and prints the table of each.
all='floor overhead overhead-driver isolation determinism copies jobs capacity memory backends rivals'

usage() {
    cat >&2 <<END
usage: sh run-experiments.sh [--out DIR] [--device N] [EXPERIMENT]...

  --out DIR      where results go, a folder for each experiment; gpu-results unless told
  --device N     the number of the GPU; 0 unless told
  EXPERIMENT     all but soak unless told, in this order:
                 $all soak

Each ends in at most ten minutes and, but for memory, goes on from its results when it is started again. memory, backends and rivals want
a bundle made with --onnx-cuda and the vendor's libraries where the linker finds them (LD_LIBRARY_PATH); memory wants
--with-models, backends --features tvm and --fleets crates/aegisrt/examples/mixed.

Exit codes: 0 all ended well, 1 something failed or was left out, 2 wrong arguments.
END
    exit 2
}

here=$(dirname -- "$(readlink -f -- "$0")") || exit 2
out=gpu-results
device=0
while [ $# -gt 0 ]; do
    case $1 in
        --out) [ $# -gt 1 ] || usage; out=$2; shift 2 ;;
        --device) [ $# -gt 1 ] || usage; device=$2; shift 2 ;;
        -*) usage ;;
        *) break ;;
    esac
done
case $device in '' | *[!0-9]*) usage ;; esac
# shellcheck disable=SC2086 # the names are wanted one by one
[ $# -gt 0 ] || set -- $all
AEGIS_CACHE=${AEGIS_CACHE:-$here/cache}
export AEGIS_CACHE
onnx=${AEGIS_ONNXRUNTIME:-$AEGIS_CACHE/onnxruntime/libonnxruntime.so}
tvm=${AEGIS_TVM:-$AEGIS_CACHE/tvm/lib}

# Whether file $2, which experiment $1 wants, is there.
has() {
    [ -e "$2" ] || { echo "$1: left out, there is no $2" >&2; return 1; }
}

# One stage into the folder of experiment $1, for at most $2 seconds.
stage() {
    folder=$out/$1 seconds=$2
    shift 2
    "$here/bin/aegis-gpu" --device "$device" --out "$folder" --seconds "$seconds" "$@"
}

experiment() {
    case $1 in
        floor) stage "$1" 30 floor ;;
        overhead) stage "$1" 60 overhead ;;
        overhead-driver) stage "$1" 60 --driver-launches overhead ;;
        isolation) stage "$1" 60 isolation ;;
        determinism) stage "$1" 90 determinism ;;
        copies) stage "$1" 60 copies ;;
        jobs) stage "$1" 540 jobs ;;
        capacity) stage "$1" 540 capacity --campaign 25 --run 6 ;;
        soak) stage "$1" 540 soak ;;
        memory)
            has "$1" "$onnx" && has "$1" "$AEGIS_CACHE/models" || return 1
            AEGIS_ONNXRUNTIME=$onnx "$here/bin/aegis-memory" --gpu "$device" --fleet fifteen
            ;;
        backends)
            has "$1" "$onnx" && has "$1" "$tvm" && has "$1" "$here/fleets/lanes.toml" || return 1
            for fleet in lanes nine-lanes; do
                stage "$1" 110 --onnx "$onnx" --driver-launches backends "$here/fleets/$fleet.toml" --tvm "$tvm" ||
                    return 1
            done
            ;;
        rivals)
            has "$1" "$onnx" || return 1
            stage "$1" 590 --onnx "$onnx" rivals --campaign 30 --rounds 3 --margin 50000 --critical 0 --pieces 0
            ;;
    esac
}

for name in "$@"; do
    case " $all soak " in
        *" $name "*) ;;
        *) echo "run-experiments.sh: there is no experiment \`$name\`" >&2; usage ;;
    esac
done
worst=0
for name in "$@"; do
    echo "== $name"
    mkdir -p -- "$out/$name" || exit 1
    # A pipe would keep the exit code of what it ends in.
    experiment "$name" >"$out/$name/table.txt"
    code=$?
    cat -- "$out/$name/table.txt"
    [ "$code" -eq 0 ] || { echo "$name: ended with exit code $code" >&2; worst=1; }
done
exit $worst

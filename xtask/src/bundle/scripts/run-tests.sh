#!/bin/sh
# Runs the test programs of this folder and prints what came of each, with every test that was
# skipped and why. Needs a shell and the core utilities.

usage() {
    cat >&2 <<'END'
usage: sh run-tests.sh [--only WORD]... [--limit SECONDS] [--logs DIR] [-- ARGUMENTS]

  --only WORD      programs whose name contains WORD; may be given several times
  --limit SECONDS  a program that runs longer is ended; 540 unless told
  --logs DIR       where the output of each program goes; logs beside this script unless told
  ARGUMENTS        go to every program, such as --include-ignored or the name of a test

Exit codes: 0 all passed, 1 something failed, 2 wrong arguments.
END
    exit 2
}

here=$(dirname -- "$(readlink -f -- "$0")") || exit 2
limit=540
logs=
only=
while [ $# -gt 0 ]; do
    case $1 in
        --) shift; break ;;
        --only) [ $# -gt 1 ] || usage; only="$only $2"; shift 2 ;;
        --limit) [ $# -gt 1 ] || usage; limit=$2; shift 2 ;;
        --logs) [ $# -gt 1 ] || usage; logs=$2; shift 2 ;;
        *) usage ;;
    esac
done
case $limit in '' | *[!0-9]*) usage ;; esac

# Another processor's programs are started by what AEGIS_RUNNER names, and those who start `aegis` by its path find
# there what AEGIS_PROGRAM names.
CARGO_BIN_EXE_aegis=${AEGIS_PROGRAM:-$here/bin/aegis}
export CARGO_BIN_EXE_aegis
# Tests that want models take the variable for a promise that they are there, and skip without it.
if [ -z "${AEGIS_CACHE:-}" ] && [ -d "$here/cache/models" ]; then
    AEGIS_CACHE=$here/cache
fi
if [ -n "${AEGIS_CACHE:-}" ]; then
    export AEGIS_CACHE
else
    unset AEGIS_CACHE
    echo 'no models in this folder: tests that want some are skipped (AEGIS_CACHE is not set)'
fi

if [ -n "$logs" ]; then
    mkdir -p -- "$logs" || exit 2
    logs=$(readlink -f -- "$logs") || exit 2
elif mkdir -p -- "$here/logs" 2>/dev/null && [ -w "$here/logs" ]; then
    logs=$here/logs
else
    logs=$(mktemp -d) || exit 2
fi
table=$logs/table.txt
skips=$logs/skipped.txt
bad=$logs/failed.txt
: >"$table" && : >"$skips" && : >"$bad" || exit 2

chosen() {
    [ -n "$only" ] || return 0
    for word in $only; do
        case $1 in *"$word"*) return 0 ;; esac
    done
    return 1
}

row() {
    printf '%-36s %7s %7s %7s %7s %6s  %s\n' "$@" >>"$table"
}

# Notes a skip, once where a test says the same several times.
note() {
    [ "$1" = "$noted" ] || echo "$1" >>"$skips"
    noted=$1
}

# Adds what one result line says; the words are the test harness's own:
# test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured; 3 filtered out; ...
count() {
    passed=$4 failed=$6 ignored=$8
}

# Reads the log of program $1: its last result line, and every skip with its reason.
read_log() {
    passed=- failed=- ignored=- current= noted=
    while IFS= read -r line; do
        case $line in
            'test result: '*)
                # shellcheck disable=SC2086 # the words of the line are wanted one by one
                count $line
                ;;
            'test '*' ... ignored'*)
                name=${line#test }
                reason=${line##* ... ignored}
                reason=${reason#, }
                note "$1: ${name%% ... ignored*}: ${reason:-ignored without a reason}"
                ;;
            '---- '*' ----')
                current=${line#---- }
                current=${current%% std*}
                ;;
            'skip '* | 'skip: '* | 'skipped: '* | 'skipped '*)
                note "$1: ${current:+$current: }$line"
                ;;
        esac
    done <"$logs/$1.log"
}

row program passed failed ignored left-out s result
worst=0
ran=0
while read -r program folder left_out; do
    chosen "$program" || continue
    ran=$((ran + 1))
    echo "== $program"
    arguments=
    left=0
    for test in $left_out; do
        arguments="$arguments --skip $test"
        left=$((left + 1))
        echo "$program: $test: left out, it reads the checkout that it was built in" >>"$skips"
    done
    begun=$(date +%s)
    (
        cd "$here/tests/crates/$folder" || exit 2
        CARGO_MANIFEST_DIR=$PWD
        export CARGO_MANIFEST_DIR
        # shellcheck disable=SC2086 # names of tests hold no blanks
        exec timeout -k 10 "$limit" ${AEGIS_RUNNER:-} "$here/tests/bin/$program" --show-output "$@" $arguments
    ) >"$logs/$program.log" 2>&1 </dev/null
    code=$?
    took=$(($(date +%s) - begun))
    read_log "$program"
    case $code in
        0) result=ok ;;
        101) result=FAILED ;;
        124 | 137) result="ENDED at its limit of $limit s, or killed (exit code $code)" ;;
        *) result="DIED with exit code $code" ;;
    esac
    if [ "$code" -eq 0 ] && [ "$passed" = - ]; then
        result='SILENT: it ended well without saying how many tests passed'
        code=1
    fi
    row "$program" "$passed" "$failed" "$ignored" "$left" "$took" "$result"
    if [ "$code" -ne 0 ]; then
        worst=1
        echo "$program" >>"$bad"
    fi
done <"$here/tests/suite"

if [ "$ran" -eq 0 ]; then
    echo "no program of tests/suite has a name that contains any of:$only" >&2
    exit 2
fi
while read -r program; do
    printf '\n== the end of %s\n' "$logs/$program.log"
    tail -n 60 -- "$logs/$program.log"
done <"$bad"
printf '\n'
cat -- "$table"
if [ -s "$skips" ]; then
    printf '\nskipped, and why:\n'
    cat -- "$skips"
fi
printf '\nlogs: %s\n' "$logs"
exit $worst

#!/bin/sh
# Says what of the board's settings real time depends on, then measures, admits and runs a fleet.

usage() {
    cat >&2 <<'END'
usage: sh run.sh [--check] [FLEET [DURATION]]

  --check   only say what real time depends on and how it is set; nothing is measured or run
  FLEET     fleets/orin.toml unless told
  DURATION  10s unless told

Nothing of the board is changed: what could be is named with the command that does it.
What was measured lies in state beside this script; remove it after a change of power mode or clocks.
END
    exit 2
}

here=$(dirname -- "$(readlink -f -- "$0")") || exit 70
check=
case ${1:-} in
    --check) check=1; shift ;;
    -*) usage ;;
esac
fleet=${1:-fleets/orin.toml}
duration=${2:-10s}
# Where the board's files are read; tests name a folder of their own.
root=${AEGIS_BOARD_ROOT:-}

# Prints the content of a file of the board, or nothing.
content() {
    [ -r "$root$1" ] && tr -d '\000' <"$root$1"
}

# A setting, how it stands, and the command that changes it where it is not as real time wants it.
setting() {
    printf '  %-28s %s\n' "$1" "$2"
    [ -z "$3" ] || printf '  %-28s -> %s\n' '' "$3"
}

report() {
    echo "what real time depends on:"
    setting board "$(content /proc/device-tree/model || echo 'not told')" ''
    release=$(content /etc/nv_tegra_release | head -n 1)
    setting release "${release:-not a JetPack system}" ''
    mode=$(content /var/lib/nvpmodel/status)
    setting 'power mode' "${mode:-not told}" "${mode:+sudo nvpmodel -m 0, the mode without a power limit on most boards; it may ask for a restart}"
    for folder in "$root"/sys/class/devfreq/*gpu*; do
        [ -d "$folder" ] || continue
        low=$(cat "$folder/min_freq" 2>/dev/null)
        high=$(cat "$folder/max_freq" 2>/dev/null)
        advice=
        [ "$low" = "$high" ] || advice='sudo jetson_clocks, holds GPU, memory and CPU at their highest clocks'
        setting 'clock of the GPU' "${low:-?} to ${high:-?} Hz" "$advice"
    done
    governors=$(cat "$root"/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor 2>/dev/null | sort -u | tr '\n' ' ')
    advice=
    case $governors in 'performance ' | '') ;; *) advice='echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor' ;; esac
    setting 'governor of the cores' "${governors:-not told}" "$advice"
    isolated=$(content /sys/devices/system/cpu/isolated)
    advice=
    [ -n "$isolated" ] || advice='isolcpus=4,5 nohz_full=4,5 rcu_nocbs=4,5 in APPEND of /boot/extlinux/extlinux.conf'
    setting 'isolated cores' "${isolated:-none}" "$advice"
    limit=$(ulimit -r 2>/dev/null || echo 0)
    advice=
    [ "$(id -u)" = 0 ] || [ "$limit" = unlimited ] || [ "${limit:-0}" -ge 20 ] 2>/dev/null || advice='as root, or LimitRTPRIO=20 as in systemd/aegisrt.service'
    setting 'highest real-time priority' "${limit:-not told}" "$advice"
    setting 'share of real-time threads' "$(content /proc/sys/kernel/sched_rt_runtime_us || echo '?') of $(content /proc/sys/kernel/sched_rt_period_us || echo '?') us" ''
    setting 'kernel' "$(uname -r) $(uname -m)" ''
}

report
[ -z "$check" ] || exit 0

case $fleet in /*) ;; *) fleet=$here/$fleet ;; esac
[ -f "$fleet" ] || { echo "run.sh: there is no fleet $fleet" >&2; exit 2; }
name=$(basename -- "$fleet" .toml)
state=${AEGIS_STATE:-$here/state}/$name
mkdir -p -- "$state" || exit 70
aegis() {
    echo "\$ aegis $*"
    "$here/aegis.sh" "$@"
}

cd "$(dirname -- "$fleet")" || exit 70
[ -f "$state/platform.json" ] || aegis calibrate "$fleet" --realtime --output "$state/platform.json" || exit
[ -f "$state/profile.json" ] || aegis profile "$fleet" --realtime --platform "$state/platform.json" --output "$state/profile.json" || exit
set -- --platform "$state/platform.json" --profile "$state/profile.json"
aegis admit "$fleet" "$@" || exit
aegis run "$fleet" "$@" --duration "$duration" --realtime --trace "$state/run.aegis"

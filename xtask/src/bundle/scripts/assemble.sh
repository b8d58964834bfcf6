#!/bin/sh
# usage: sh assemble.sh [DIR]
# Puts the parts beside this script together and unpacks them as the folder DIR/@NAME@
# (DIR is the current folder unless told). Nothing is left behind where a part is missing or
# damaged. Needs a shell, the core utilities, tar and gzip.
name=@NAME@
here=$(dirname -- "$(readlink -f -- "$0")") || exit 1
destination=${1:-.}

refuse() {
    echo "assemble.sh: $1" >&2
    exit 1
}

[ -d "$destination" ] || refuse "$destination is no folder"
[ ! -e "$destination/$name" ] || refuse "$destination/$name is there already"
[ -f "$here/PARTS.sha256" ] || refuse "PARTS.sha256 is missing beside this script"

objections=0
while read -r wanted part; do
    if [ ! -f "$here/$part" ]; then
        echo "assemble.sh: part $part is missing" >&2
        objections=$((objections + 1))
        continue
    fi
    found=$(sha256sum <"$here/$part")
    if [ "${found%% *}" != "$wanted" ]; then
        echo "assemble.sh: part $part is damaged: its SHA-256 is ${found%% *}, not $wanted" >&2
        objections=$((objections + 1))
    fi
done <"$here/PARTS.sha256"
[ "$objections" -eq 0 ] || refuse "$objections part(s) missing or damaged; nothing was unpacked"

scratch=$(mktemp -d "$destination/.assemble-XXXXXX") || refuse "cannot write into $destination"
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
while read -r wanted part; do
    cat -- "$here/$part" || exit 1
done <"$here/PARTS.sha256" | tar -xzf - -C "$scratch" || refuse "the archive could not be unpacked"
(cd "$scratch/$name" && sha256sum -c --quiet SHA256SUMS) || refuse "a file of the archive is not the one that was packed"
mv -- "$scratch/$name" "$destination/$name" || exit 1
echo "$destination/$name"

#!/bin/sh
# Measures the kernels of this bundle on this machine, some seconds each:
#     sh run.sh [results.json]
# QC_RUN is put before every program (an emulator, taskset).  Take the file that it writes back:
#     qc tune --import results.json
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-results.json}
model=$(sed -n 's/^\(model name\|CPU part\|Hardware\)[[:space:]]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)
if grep -q '"cpu": "cuda' "$here/bundle.json"; then
    set -- "$here"/programs/*
    model=$(${QC_RUN:-} "$1" device) || exit 1
else
    model="$(uname -m) $model"
fi
device=$(printf '%s' "$model" | tr -d '"\\\n')
total=$(ls "$here/programs" | wc -l)
number=0
{
    printf '{"device": "%s",\n "runs": {' "$device"
    separator=
    for program in "$here"/programs/*; do
        number=$((number + 1))
        printf 'group %s of %s\n' "$number" "$total" >&2
        ${QC_RUN:-} "$program" 20 10 > "$out.group"
        [ $? -eq 4 ] && continue # it is the device: nothing is known of the kernels
        printf '%s\n  "%s": "%s"' "$separator" "${program##*/}" "$(tr '\n' ';' < "$out.group")"
        separator=,
    done
    printf '},\n "bundle": '
    cat "$here/bundle.json"
    printf '}\n'
} > "$out.part" && rm -f "$out.group" && mv "$out.part" "$out" && printf 'written to %s\n' "$out" >&2

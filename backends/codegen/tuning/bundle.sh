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
number=0 measured=0
{
    printf '{"device": "%s",\n "runs": {' "$device"
    separator=
    for program in "$here"/programs/*; do
        number=$((number + 1))
        printf 'group %s of %s\n' "$number" "$total" >&2
        ${QC_RUN:-} "$program" 20 10 > "$out.group"
        if [ $? -eq 4 ]; then # it is the device: nothing is known of the kernels
            printf 'group %s is left out\n' "$number" >&2
            continue
        fi
        printf '%s\n  "%s": "%s"' "$separator" "${program##*/}" "$(tr '\n' ';' < "$out.group")"
        separator=, measured=$((measured + 1))
    done
    printf '},\n "bundle": '
    cat "$here/bundle.json"
    printf '}\n'
} > "$out.part" || exit 1
rm -f "$out.group"
if [ "$measured" -eq 0 ]; then
    rm -f "$out.part"
    printf 'nothing could be measured on this machine; %s is not written\n' "$out" >&2
    exit 1
fi
mv "$out.part" "$out" && printf 'written to %s\n' "$out" >&2

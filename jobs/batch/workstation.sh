#!/usr/bin/env bash
# From one teacher to many students on one machine, overnight:
# cache -> correct by sort and by swap -> a student for each architecture, store and seed.
#
#   DATASET=cifar100:data TEACHER=cifar:resnet32x4@teacher.pt OUT=runs/cifar100 jobs/batch/workstation.sh
#
# It can be killed at any moment and run again: each job goes on from where it was. Changed settings
# that would mix two experiments in one folder are refused by the job that notices. It stops at the
# first job that fails, with that job's message and exit code. Everything it makes lies under OUT:
#   raw.zarr sort.zarr swap.zarr     the stores
#   students/STUDENT-STORE-seedN/    the runs
#   results.txt                      the result of each run, one line each, once all are done
set -euo pipefail
set -f # Unquoted settings are split into words, but never globbed.

DATASET=${DATASET:-cifar100:data}                    # as `logitbank cache --dataset`
SPLIT=${SPLIT:-train}                                # of the dataset, to train on
TEACHER=${TEACHER:-cifar:resnet32x4@teacher.pt}      # a model with weights
AUGMENTATION=${AUGMENTATION:-cifar-weak}
VIEWS=${VIEWS:-40}                                   # per image: a teacher forward pass each
VIEW_SEED=${VIEW_SEED:-0}                            # of the views
ENCODING=${ENCODING:-float16}
STORES=${STORES:-raw sort swap}                      # what students learn from
STUDENTS=${STUDENTS:-cifar:resnet8x4 cifar:resnet20} # architectures
SEEDS=${SEEDS:-0 1 2}                                # of the students
EPOCHS=${EPOCHS:-240}
OUT=${OUT:-runs/workstation}
CACHE_FLAGS=${CACHE_FLAGS:-}                         # more flags, such as --batch-size 512
TRAIN_FLAGS=${TRAIN_FLAGS:-}                         # more flags, such as --lr 0.01 --amp
LOGITBANK=${LOGITBANK:-logitbank}                    # the command itself

if (($# > 0)); then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] && exit 0
    echo "workstation.sh: error: it takes no arguments: set environment variables instead" >&2
    exit 2
fi

job() { # Run one job; if it fails, print which it was and return its exit code.
    local code=0
    echo "== logitbank $*" >&2
    # shellcheck disable=SC2086
    $LOGITBANK "$@" || code=$?
    ((code == 0)) || echo "workstation.sh: error: stopped by exit code $code of: logitbank $*" >&2
    return "$code"
}

number() { # Print a whole number of the raw store's manifest by its name.
    # shellcheck disable=SC2086
    $LOGITBANK inspect "$OUT/raw.zarr" --json | sed -n "s/.*\"$1\": \([0-9]\{1,\}\)[,}].*/\1/p"
}

mkdir -p "$OUT/students"
# shellcheck disable=SC2086
job cache --dataset "$DATASET" --split "$SPLIT" --teacher "$TEACHER" \
    --augmentation "$AUGMENTATION" --views "$VIEWS" --seed "$VIEW_SEED" --encoding "$ENCODING" \
    $CACHE_FLAGS --out "$OUT/raw.zarr"
for store in $STORES; do
    [[ $store == raw ]] || job correct "$OUT/raw.zarr" --correction "$store" --out "$OUT/$store.zarr"
done

runs=0
: >"$OUT/results.partial"
for student in $STUDENTS; do
    for store in $STORES; do
        for seed in $SEEDS; do
            name="${student//[^A-Za-z0-9._-]/-}-$store-seed$seed"
            # shellcheck disable=SC2086
            job train --dataset "$DATASET" --student "$student" --soft-labels "$OUT/$store.zarr" \
                --epochs "$EPOCHS" --seed "$seed" $TRAIN_FLAGS --out "$OUT/students/$name" |
                tail -n 1 | tee -a "$OUT/results.partial"
            runs=$((runs + 1))
        done
    done
done
mv "$OUT/results.partial" "$OUT/results.txt"

views=$(number views) samples=$(number samples) checked=$(number clean_samples)
cat <<SUMMARY
teacher forward passes spent: $((views * samples)) on the store ($views views of $samples samples)
  and $checked on checking the teacher, not counting blocks that a killed run had not written yet
with the teacher in the loop: $((runs * EPOCHS * samples)) ($runs students x $EPOCHS epochs x $samples samples)
SUMMARY

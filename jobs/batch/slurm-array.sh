#!/usr/bin/env bash
# One store made by the tasks of a SLURM array, each of them a part: nothing runs on the login node,
# and no task talks to another. The arguments are those of the logitbank job:
#
#   sbatch --gpus=1 jobs/batch/slurm-array.sh cache --dataset imagenet:/data/imagenet \
#       --teacher torchvision:resnet50@DEFAULT --augmentation imagenet-weak --views 100 \
#       --out /scratch/raw.zarr
#   sbatch jobs/batch/slurm-array.sh correct /scratch/raw.zarr --correction sort --out /scratch/sort.zarr
#
# PARTS is the number of shares, whichever tasks are submitted; the array counts from 0:
#   PARTS=100 sbatch --array=0-99 --gpus=1 jobs/batch/slurm-array.sh ...   another number of shares
#   sbatch --array=5 --gpus=1 jobs/batch/slurm-array.sh ...                one of them again, alone
#
# Five minutes before a task's time is up, SIGUSR1 makes it finish the block in hand and exit with
# 75; it is then requeued and goes on, as it does after a preemption. So the time limit below does
# not limit the work, but it must be well above the time of one block (docs/cluster.md).
#SBATCH --job-name=logitbank
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logitbank-%A_%a.log
set -euo pipefail

PARTS=${PARTS:-8}
LOGITBANK=${LOGITBANK:-logitbank} # the command itself

if (($# == 0)); then
    echo "slurm-array.sh: error: no job given: add cache ... or correct ..." >&2
    exit 2
fi
threads=()
case $1 in # A flag among the arguments wins over these.
    cache) threads=(--workers "${SLURM_CPUS_PER_TASK:-2}") ;;
    correct) threads=(--threads "${SLURM_CPUS_PER_TASK:-2}") ;;
esac
# The signals are meant for the job step: the script survives them to requeue the task.
trap : TERM USR1

code=0
# shellcheck disable=SC2086
srun $LOGITBANK "$1" "${threads[@]}" "${@:2}" --part "$SLURM_ARRAY_TASK_ID/$PARTS" || code=$?
if ((code == 75)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    exit 0
fi
exit "$code"

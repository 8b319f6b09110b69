#!/usr/bin/env bash
# One store by the tasks of a SLURM array, each a part: nothing of ours runs on the login node, and
# no task talks to another. The arguments are those of the job:
#
#   sbatch --gpus=1 jobs/batch/slurm-array.sh cache --dataset imagenet:/data/imagenet \
#       --teacher torchvision:resnet50@DEFAULT --augmentation imagenet-weak --views 100 \
#       --out /scratch/raw.zarr
#   sbatch jobs/batch/slurm-array.sh correct /scratch/raw.zarr --correction sort --out /scratch/sort.zarr
#
# PARTS is how many shares the work has, whatever tasks are submitted; the array counts from 0:
#   PARTS=100 sbatch --array=0-99 --gpus=1 jobs/batch/slurm-array.sh ...   another number of them
#   sbatch --array=5 --gpus=1 jobs/batch/slurm-array.sh ...                one of them alone, once more
#
# Five minutes before a task's time is up, SIGUSR1 makes it finish the block in hand and exit with
# 75; it is then queued again and goes on, as it does after a preemption. So the time limit below is
# no limit of the work, but it has to be well above what one block takes (docs/cluster.md).
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
    echo "slurm-array.sh: error: which job? cache ... or correct ..." >&2
    exit 2
fi
threads=()
case $1 in # A flag among the arguments wins over these.
    cache) threads=(--workers "${SLURM_CPUS_PER_TASK:-2}") ;;
    correct) threads=(--threads "${SLURM_CPUS_PER_TASK:-2}") ;;
esac
# The signals are for the job step: the script outlives them to queue the task again.
trap : TERM USR1

code=0
# shellcheck disable=SC2086
srun $LOGITBANK "$1" "${threads[@]}" "${@:2}" --part "$SLURM_ARRAY_TASK_ID/$PARTS" || code=$?
if ((code == 75)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    exit 0
fi
exit "$code"

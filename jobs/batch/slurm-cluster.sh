#!/usr/bin/env bash
# One store made by Dask workers that this batch job submits itself. It is the client: it hands out
# tasks, tracks progress and seals, so it needs little and lives as long as the work. For sites where
# compute nodes may submit batch jobs and reach each other; elsewhere use slurm-array.sh.
#
#   sbatch jobs/batch/slurm-cluster.sh cache --dataset imagenet:/data/imagenet \
#       --teacher torchvision:resnet50@DEFAULT --augmentation imagenet-weak --views 100 \
#       --out /scratch/raw.zarr
#
# WORKERS is the settings file with the number of workers and the resources of each.
#SBATCH --job-name=logitbank-client
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=1-00:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logitbank-%j.log
set -euo pipefail

WORKERS=${WORKERS:-jobs/batch/slurm.yaml}
LOGITBANK=${LOGITBANK:-logitbank} # the command itself

if (($# == 0)); then
    echo "slurm-cluster.sh: error: no job given: add cache ... or correct ..." >&2
    exit 2
fi
# The signals are meant for the job step: the script survives them to requeue itself.
trap : TERM USR1

code=0
# shellcheck disable=SC2086
srun $LOGITBANK "$@" --cluster "slurm:$WORKERS" || code=$?
if ((code == 75)); then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"

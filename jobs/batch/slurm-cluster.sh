#!/usr/bin/env bash
# One store by Dask workers that this job queues for itself. It is the client: it hands out tasks,
# counts what is done and seals, so it wants little and lives as long as the work. For sites where
# compute nodes may submit jobs and reach each other; for others there is slurm-array.sh.
#
#   sbatch jobs/batch/slurm-cluster.sh cache --dataset imagenet:/data/imagenet \
#       --teacher torchvision:resnet50@DEFAULT --augmentation imagenet-weak --views 100 \
#       --out /scratch/raw.zarr
#
# WORKERS is the file that says how many workers there are and what each of them gets.
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
    echo "slurm-cluster.sh: error: which job? cache ... or correct ..." >&2
    exit 2
fi
# The signals are for the job step: the script outlives them to queue itself again.
trap : TERM USR1

code=0
# shellcheck disable=SC2086
srun $LOGITBANK "$@" --cluster "slurm:$WORKERS" || code=$?
if ((code == 75)); then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"

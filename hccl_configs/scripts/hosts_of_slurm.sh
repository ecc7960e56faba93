mapfile -t hosts < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?submit this script with sbatch}")
reach=(--reach 'srun --overlap --nodes=1 --ntasks=1 --nodelist={host}')

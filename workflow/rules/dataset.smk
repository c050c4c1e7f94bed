# A local rule, because the network is where Snakemake is, and may not be where jobs run.
rule dataset:
    """Read a data set, scale nothing, hold out validation images if asked to; one file."""
    input:
        outdated=outdated(FILE["dataset"]),
    output:
        FILE["dataset"],
    log:
        LOG["dataset"],
    message:
        "dataset: {wildcards.dataset}"
    shell:
        "python -m dfkd_steps.dataset {output:q} > {log:q} 2>&1"

# A local rule, because the network is where Snakemake is, and may not be where jobs run.
rule dataset:
    """Read a data set into one file, with unscaled values; hold out validation images if configured."""
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

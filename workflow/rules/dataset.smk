# A local rule, because the network is where Snakemake is, and may not be where jobs run.
# Every DAG has a data set in it, so the input function of this rule is the one to tell what is stale.
rule dataset:
    input:
        made_again,
    output:
        FILE["dataset"],
    log:
        LOG["dataset"],
    params:
        cfg=own_config("dataset"),
        code=own_code("dataset"),
    message:
        "dataset: {wildcards.dataset}"
    shell:
        "python -m dfkd_steps.dataset {output:q} > {log:q} 2>&1"

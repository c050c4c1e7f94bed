rule synthesize:
    input:
        teacher=FILE["teacher"],
        sources=source_sets,
    output:
        FILE["synthesize"],
    log:
        LOG["synthesize"],
    params:
        cfg=own_config("synthesize"),
        code=own_code("synthesize"),
    message:
        "synthesize: {wildcards.transfer} from {wildcards.dataset}/{wildcards.teacher}"
    shell:
        "python -m dfkd_steps.synthesize {output:q} {input:q} > {log:q} 2>&1"

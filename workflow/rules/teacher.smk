rule teacher:
    input:
        dataset=FILE["dataset"],
    output:
        network=FILE["teacher"],
        history=history("teacher"),
    log:
        LOG["teacher"],
    params:
        cfg=own_config("teacher"),
        code=own_code("teacher"),
    message:
        "teacher: {wildcards.teacher} for {wildcards.dataset}"
    shell:
        "python -m dfkd_steps.teacher {output.network:q} {input:q} > {log:q} 2>&1"

rule evaluate:
    input:
        student=FILE["distill"],
        teacher=FILE["teacher"],
        dataset=FILE["dataset"],
    output:
        FILE["evaluate"],
    log:
        LOG["evaluate"],
    params:
        code=own_code("evaluate"),
    message:
        "evaluate: {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}/{wildcards.balance}/{wildcards.student}"
    shell:
        "python -m dfkd_steps.evaluate {output:q} {input:q} > {log:q} 2>&1"

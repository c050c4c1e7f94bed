rule distill:
    input:
        teacher=FILE["teacher"],
        transfer=FILE["balance"],
    output:
        network=FILE["distill"],
        history=history("distill"),
    log:
        LOG["distill"],
    params:
        cfg=own_config("distill"),
        code=own_code("distill"),
    message:
        "distill: {wildcards.student} from {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}/{wildcards.balance}"
    shell:
        "python -m dfkd_steps.distill {output.network:q} {input:q} > {log:q} 2>&1"

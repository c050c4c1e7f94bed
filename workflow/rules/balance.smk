rule balance:
    input:
        teacher=FILE["teacher"],
        transfer=FILE["synthesize"],
    output:
        FILE["balance"],
    log:
        LOG["balance"],
    params:
        cfg=own_config("balance"),
        code=own_code("balance"),
    message:
        "balance: {wildcards.balance} over {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}"
    shell:
        "python -m dfkd_steps.balance {output:q} {input:q} > {log:q} 2>&1"

rule balance:
    """Balance the classes of a transfer set, as the teacher predicts them."""
    input:
        teacher=output_of("teacher"),
        transfer=output_of("synthesize"),
        outdated=outdated(FILE["balance"]),
    output:
        FILE["balance"],
    log:
        LOG["balance"],
    message:
        "balance: {wildcards.balance} over {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}"
    shell:
        "python -m dfkd_steps.balance {output:q} {input.teacher:q} {input.transfer:q} > {log:q} 2>&1"

rule distill:
    """Distil a student from the teacher on a balanced transfer set."""
    input:
        teacher=output_of("teacher"),
        transfer=output_of("balance"),
        outdated=outdated(FILE["distill"]),
    output:
        network=FILE["distill"],
        history=history("distill"),
    log:
        LOG["distill"],
    message:
        "distill: {wildcards.student} from {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}/{wildcards.balance}"
    shell:
        "python -m dfkd_steps.distill {output.network:q} {input.teacher:q} {input.transfer:q} > {log:q} 2>&1"

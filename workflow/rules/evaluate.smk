rule evaluate:
    """Evaluate a student and its teacher on the test images."""
    input:
        student=output_of("distill"),
        teacher=output_of("teacher"),
        dataset=output_of("dataset"),
        outdated=outdated(FILE["evaluate"]),
    output:
        FILE["evaluate"],
    log:
        LOG["evaluate"],
    message:
        "evaluate: {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}/{wildcards.balance}/{wildcards.student}"
    shell:
        "python -m dfkd_steps.evaluate {output:q} {input.student:q} {input.teacher:q} {input.dataset:q} > {log:q} 2>&1"

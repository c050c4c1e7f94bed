rule teacher:
    """Train a teacher on a data set, or import one."""
    input:
        dataset=output_of("dataset"),
        outdated=outdated(FILE["teacher"]),
    output:
        network=FILE["teacher"],
        history=history("teacher"),
    log:
        LOG["teacher"],
    message:
        "teacher: {wildcards.teacher} for {wildcards.dataset}"
    shell:
        "python -m dfkd_steps.teacher {output.network:q} {input.dataset:q} > {log:q} 2>&1"

rule export:
    """Write a student as ONNX, int8 ONNX, state dict and torch.export program, with a model card."""
    input:
        student=output_of("distill"),
        teacher=output_of("teacher"),
        transfer=output_of("balance"),
        outdated=outdated(FILE["export"]),
    output:
        manifest=FILE["export"],
        files=exported.paths(FILE["export"]),
    log:
        LOG["export"],
    message:
        "export: {wildcards.dataset}/{wildcards.teacher}/{wildcards.transfer}/{wildcards.balance}/{wildcards.student}"
    shell:
        "python -m dfkd_steps.export {output.manifest:q} {input.student:q} {input.teacher:q} {input.transfer:q} > {log:q} 2>&1"

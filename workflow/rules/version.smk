# DVC has its own order of things: its cache and dvc.lock are not files of this workflow, so there is no output.
rule version:
    """Register the sweep with DVC: check every artefact by its own key, then let DVC adopt the files; nothing runs again."""
    input:
        metrics=versioned_finals,
        report=REPORT,
    log:
        "logs/version.log",
    params:
        metrics=f"@{LISTING}",
    message:
        "version: DVC adopts the sweep"
    shell:
        "(python -m dfkd_steps.cli audit {params.metrics:q} && dvc repro resolve && dvc commit -f && dvc status) > {log:q} 2>&1"

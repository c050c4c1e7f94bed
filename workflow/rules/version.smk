# After Snakemake ran: check every artefact by its own key, then let DVC take over the files without running anything.
# DVC has its own order of things: its cache and dvc.lock are not files of this workflow, so there is no output.
rule version:
    input:
        metrics=FINALS,
        report=REPORT,
    log:
        "logs/version.log",
    params:
        metrics=metrics_argument,
    message:
        "version: DVC adopts the sweep"
    shell:
        "(python -m dfkd_steps.cli audit {params.metrics:q} && dvc repro resolve && dvc commit -f && dvc status) > {log:q} 2>&1"

rule report:
    """Put all runs of the sweep on one page, and write a table and a summary."""
    input:
        metrics=[dated(path) for path in FINALS],
        outdated=outdated(REPORT[0]),
    output:
        page=REPORT[0],
        table=REPORT[1],
        summary=REPORT[2],
    log:
        f"logs/{REPORT[0]}.log",
    params:
        metrics=f"@{LISTING}",
    message:
        "report: {output.page}"
    shell:
        "python -m dfkd_steps.report {output.page:q} {params.metrics:q} > {log:q} 2>&1"

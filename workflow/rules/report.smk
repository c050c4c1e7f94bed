rule report:
    """Put all runs of the sweep on one page, with a table and a summary beside it."""
    input:
        metrics=[dated(path) for path in FINALS],
        outdated=outdated(REPORT[0]),
    output:
        REPORT,
    log:
        f"logs/{REPORT[0]}.log",
    message:
        "report: {output[0]}"
    shell:
        "python -m dfkd_steps.report {output[0]:q} @{LISTING} > {log:q} 2>&1"

# The only rule over the whole sweep.
rule report:
    input:
        FINALS,
    output:
        page=report(REPORT, caption="../report/page.rst", category="Results", labels={"file": "all runs, figures"}),
        table=report(TABLE, caption="../report/table.rst", category="Results", labels={"file": "all runs, table"}),
        summary=SUMMARY,
    log:
        f"logs/{REPORT}.log",
    params:
        metrics=metrics_argument,
        code=keys.report_recipe(),
    message:
        "report: {output.page}"
    shell:
        "python -m dfkd_steps.report {output.page:q} {params.metrics:q} > {log:q} 2>&1"

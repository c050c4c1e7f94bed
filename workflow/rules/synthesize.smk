rule synthesize:
    """Make a transfer set from a teacher, by any method."""
    input:
        teacher=output_of("teacher"),
        sources=source_sets,
        shards=shards_of,
        outdated=outdated(FILE["synthesize"]),
    output:
        FILE["synthesize"],
    log:
        LOG["synthesize"],
    # The longest step, as a rule, and a sweep's students wait for it: before whatever else could start.
    priority: 1
    message:
        "synthesize: {wildcards.transfer} from {wildcards.dataset}/{wildcards.teacher}"
    shell:
        "python -m dfkd_steps.synthesize {output:q} {input.teacher:q} {input.sources:q} > {log:q} 2>&1"


rule shard:
    """Make one of N parts of a transfer set (--config shards=N); synthesize puts them together."""
    input:
        teacher=output_of("teacher"),
        sources=source_sets,
        outdated=outdated(str(shards.path_of(FILE["synthesize"], "{number}", "{of}"))),
    output:
        temp(str(shards.path_of(FILE["synthesize"], "{number}", "{of}"))),
    log:
        str(shards.path_of(LOG["synthesize"], "{number}", "{of}").with_suffix(".log")),
    params:
        whole=FILE["synthesize"],
    message:
        "shard {wildcards.number} of {wildcards.of}: {wildcards.transfer} from {wildcards.dataset}/{wildcards.teacher}"
    shell:
        "python -m dfkd_steps.shard {params.whole:q} {wildcards.number} {wildcards.of}"
        " {input.teacher:q} {input.sources:q} > {log:q} 2>&1"

# What all rules share: names of files, and what is to be made again.

FILE = {name: step.template for name, step in graph.STEPS.items()}
LOG = {name: step.log for name, step in graph.STEPS.items()}


def or_end(function, *arguments):
    """Call a function; its error ends Snakemake, which has done nothing yet, with a line for each fault and code 2."""
    try:
        return function(*arguments)
    except Exception as error:
        sys.exit(print_errors(explain("snakemake", error)))


def sweep_file():
    """The file of the sweep: params/experiment.yaml, or what --config sweep=FILE names."""
    path = config.get("sweep", sweep.EXPERIMENT)
    if not isinstance(path, str) or not path:
        raise UserError(f"--config sweep={path}: is not the name of a file; give one like --config sweep=params/sweeps/tiny.yaml")
    return path


def read_sweep():
    """The sweep of params/experiment.yaml or of --config sweep=FILE, with what else --config says in place."""
    threads.thread_count()  # refuses what is none
    if workflow.configfiles:  # Snakemake runs Python that stands in such a file, a dry run too
        raise UserError(
            f"--configfile: a sweep is data, not code; give --config sweep={os.path.relpath(workflow.configfiles[-1])}"
        )
    return sweep.read(sweep_file(), {key: value for key, value in config.items() if key != "sweep"})


@functools.cache
def targets_given():
    """Paths below results/ on the command line, whichever way they are written, and is the sweep a target too? By Snakemake's
    own parser: `all` is a target, and in `--cores all` it is none."""
    words = sys.argv[1:]
    options = words[: words.index("--")] if "--" in words else words
    targets = [*cli.get_argument_parser().parse_known_args(options)[0].targets, *words[len(options) + 1 :]]
    paths = [Path(os.path.normpath(target)) for target in targets]
    below = [path for path in paths if path.parts[:1] == ("results",)]
    return below, not paths or len(below) < len(paths)


def artefacts_given():
    """The artefacts among the targets; of other paths Snakemake says itself that no rule makes them."""
    return [path for path in targets_given()[0] if path.name in {*audit.OUTPUTS, audit.HISTORY}]


def check_targets():
    """Are the paths below results/ on the command line such as a rule makes?"""
    sweep.check_paths(artefacts_given())


def check_room():
    """Refuse what has a job that takes more than the machine has, or a file that is gone; says what all jobs of the targets take."""
    targets = [*map(sweep.artefact_of, artefacts_given()), *(FINALS if targets_given()[1] else [])]
    todo = sorted(audit.to_make(targets, STALE))
    audit.refuse_gone(todo)
    estimate.refuse(todo)
    if todo:
        print(estimate.summary(todo), file=sys.stderr)


def check_own_files():
    """Snakemake's own files lie in .snakemake/, logs in logs/, and where they cannot be written it ends with tracebacks: the disk
    is full, or the folder belongs to somebody else."""
    os.makedirs(".snakemake", exist_ok=True)
    disk.require_room(".snakemake")
    logs = "logs" if os.path.isdir("logs") else "."
    for folder in (".snakemake", *(entry.path for entry in os.scandir(".snakemake") if entry.is_dir()), logs):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(
                f"{os.path.abspath(folder)}: may not be written; work in a clone of your own, or let its owner "
                "give you leave to write .snakemake, logs and results"
            )


def is_alive(number):
    """Is there a process of this number on this host, whoever's it is?"""
    with contextlib.suppress(PermissionError):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return False
    return True


def check_other_driver():
    """Refuse to work beside DVC, which deletes the output of a stage before it runs: Snakemake would make again what is there.
    The stage `resolve`, which deletes no artefact, does not count."""
    numbers = set()
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        writers = json.loads(Path(".dvc/tmp/rwlock").read_text())["write"]
        numbers = {int(writer["pid"]) for path, writer in writers.items() if "_resolved" not in Path(path).parts}
    for number in filter(is_alive, numbers):  # of one that was killed DVC clears its record itself
        raise UserError(f".dvc/tmp/rwlock: DVC works in this folder (process {number}); wait until it has ended")


def mark_outdated():
    """A file that is newer than all artefacts as long as Snakemake runs: what has it as an input is made again."""
    print(
        f"{len(STALE)} files were made with a different config, code or input; they are made again where needed", file=sys.stderr
    )
    try:
        os.makedirs(".snakemake", exist_ok=True)
        return tempfile.NamedTemporaryFile(prefix="outdated-", dir=".snakemake")
    except OSError:  # a file system that is read-only, where a dry run still tells what there is to do
        return tempfile.NamedTemporaryFile(prefix="outdated-")


def of_params(function, *arguments):
    """What a function reads of params/, for a job. Wrong specs end Snakemake here; in the process of a job, which may begin days
    later, the step itself says what is wrong by then, in the log that Snakemake shows."""
    if workflow.is_main_process:
        return or_end(function, *arguments)
    with contextlib.suppress(UserError):
        return function(*arguments)
    return []


# Not in the processes of single jobs: the file of the sweep may be another one, wrong or gone when a job begins, which goes by
# its own specs.
SWEEP = or_end(read_sweep) if workflow.is_main_process else None
# One report per sweep, so that none is overwritten; that of params/experiment.yaml, which DVC makes too, right in report/.
PLACE = sweep.report_folder(sweep_file())
REPORT = [f"{PLACE}/index.html", f"{PLACE}/results.csv", f"{PLACE}/summary.json"]
FINALS = sweep.finals(SWEEP) if SWEEP else []
EXPORTS = sweep.exports(SWEEP) if SWEEP else []
# The paths of the sweep's metrics: one argument of a command is limited to 128 KiB, which 700 of them fill. Named by its
# content: another Snakemake, with other values of --config, writes another while this one runs.
LISTING = f"logs/{PLACE}/metrics-{hashlib.sha256(repr(FINALS).encode()).hexdigest()[:12]}"
# What the profiles reserve for a step is what runtime.threads.thread_count() lets it compute with.
os.environ.update(DFKD_THREADS=str(threads.thread_count()))
if SWEEP:
    os.environ.update(DFKD_SHARDS=str(SWEEP.get("shards", 1)))  # for the processes of jobs
# Files are current or stale by the keys they carry, not by Snakemake's records or their dates: records are missing in a
# fresh clone, and know nothing of what DVC made. Not in the processes started for single jobs: there all is decided.
STALE, NEWER = or_end(audit.to_remake, "results", REPORT, FINALS) if workflow.is_main_process else ({}, set())
OUTDATED = mark_outdated() if STALE else None
if workflow.is_main_process:
    or_end(check_other_driver)
    or_end(check_own_files)
    or_end(check_targets)
    or_end(check_room)


def dated(path):
    """The path as an input; its date does not count where it and what was made from it are current."""
    return ancient(path) if path in NEWER else path


def output_of(step):
    """The artefact of an earlier step, as an input."""
    return lambda wildcards: dated(FILE[step].format(**dict(wildcards.items())))


def outdated(path):
    """No input; or, where the artefact is to be made again, one that is newer than it. Checks the specs of its path."""

    def newest(wildcards):
        artefact = path.format(**dict(wildcards.items()))
        if artefact not in REPORT:
            of_params(sweep.check_paths, [artefact])
        return [OUTDATED.name] if artefact in STALE else []

    return newest


def history(step):
    """The training curve that appears beside a network."""
    return str(Path(FILE[step]).with_name(audit.HISTORY))


def source_sets(wildcards):
    """The data sets that an arbitrary transfer set is taken from; none for a data-free method."""
    sources = of_params(graph.sources, wildcards.transfer, wildcards.dataset)
    return [dated(FILE["dataset"].format(dataset=source)) for source in sources]


def shards_of(wildcards):
    """The shards of a transfer set with --config shards=N; none for a method that cannot be divided."""

    def paths():
        most = params.load("transfer", wildcards.transfer).max_shards()
        of = min(int(os.environ.get("DFKD_SHARDS", 1)), most)
        return [str(shards.path_of(FILE["synthesize"], number, of)) for number in range(of)] if of > 1 else []

    return of_params(paths)


def versioned_finals(wildcards):
    """The metrics and exports of the sweep, if it is the one that DVC versions."""
    or_end(sweep.check_versioned, SWEEP)
    return FINALS + EXPORTS

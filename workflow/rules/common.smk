# What all rules share: names of files, config and code of a job, and what is to be made again.

FILE = {name: step.template for name, step in graph.STEPS.items()}
LOG = {name: step.log for name, step in graph.STEPS.items()}
REPORT = "report/index.html"
TABLE = "report/results.csv"
SUMMARY = "report/summary.json"


def friendly(function, *arguments):
    """Call a function of dfkd_steps; its UserError becomes an error that Snakemake shows without a traceback."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def own_config(step):
    """The config that a job of this step reads, as a function of its wildcards."""
    return lambda wildcards: friendly(keys.own_config, step, dict(wildcards.items()))


def own_code(step):
    """The fingerprint of the code that a job of this step runs, as a function of its wildcards."""
    return lambda wildcards: friendly(keys.code_of, step, dict(wildcards.items()))


def history(step):
    """The training curve that appears beside a network."""
    return str(Path(FILE[step]).with_name(audit.HISTORY))


def source_sets(wildcards):
    """The data sets that an arbitrary transfer set is taken from; none for a data-free method."""
    return [FILE["dataset"].format(dataset=source) for source in friendly(graph.sources, wildcards.transfer)]


def shards_of(wildcards):
    """The shards of a transfer set with --config shards=N; none for a method that cannot be divided."""
    most = friendly(lambda: params.load("transfer", wildcards.transfer).max_shards())
    of = min(config.get("shards", 1), most)
    return [str(shards.path_of(FILE["synthesize"], number, of)) for number in range(of)] if of > 1 else []


def stale():
    """Files that do not belong to params/ and the code as they are now, by the keys they carry.

    Snakemake's own records are not asked: they are missing in a fresh clone, know nothing of what DVC made, and call
    a file current whose config was changed there and back in between.
    """
    faults = audit.handover("results", [REPORT, TABLE, SUMMARY], FINALS)
    if faults:
        logger.info(f"{len(faults)} files were made under another config, code or input: made again where needed")
    return set(faults)


def made_again(wildcards):
    """No input, but an input function, called while the DAG is built: tells it which files are to be made again."""
    workflow.dag.forcefiles.update(STALE)
    return []


def show_results():
    """Print the table of the sweep at the end of a run that was asked for it."""
    targets = {str(target) for target in workflow.dag_settings.targets}
    asked_for = not targets or targets & {"all", "version", "report", REPORT, TABLE, SUMMARY}
    if asked_for and all(map(os.path.exists, FINALS)):
        print(runs.to_text(runs.grouped(friendly(runs.read, FINALS))), REPORT, sep="\n")


def metrics_argument(wildcards):
    """The sweep's metrics on a command line; as @FILE where they exceed the 128 KiB that Linux allows one argument."""
    if len(" ".join(FINALS)) < 100_000:
        return FINALS
    listing = Path("logs/report/metrics")
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{path}\n" for path in FINALS))
    return f"@{listing}"


def cancel_orphans():
    """Cancel what a run in this folder that was killed has left in the queue of Slurm: two would work on one file.

    What they have done so far is not lost, as a step resumes. No other run is at work here: Snakemake holds a lock.
    """

    def orphans():
        listing = ["squeue", "--me", "--noheader", "--format=%A|%j|%Z"]
        queued = subprocess.run(listing, capture_output=True, text=True).stdout.splitlines()
        fields = [line.split("|", 2) for line in queued]
        return sorted({number for number, name, folder in fields if name.startswith("dfkd_") and os.path.samefile(folder, ".")})

    if not shutil.which("squeue") or not (found := orphans()):
        return
    logger.info(f"Cancelled, as the run that they belong to is gone: Slurm jobs {', '.join(found)}")
    subprocess.run(["scancel", *found], check=True)
    # The Snakemake in such a job removes the output of the step that it is at, also if that ended a moment ago.
    limit = time.monotonic() + 120
    while orphans() and time.monotonic() < limit:
        time.sleep(0.5)
    planned = list(workflow.dag.needrun_jobs())
    made = {str(path) for job in planned for path in job.output}
    if gone := sorted({str(path) for job in planned for path in job.input if str(path) not in made and not os.path.exists(path)}):
        logger.info(f"They took with them what this run counted on, so that it starts over: {', '.join(gone)}")
        workflow.persistence.unlock()
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


class NothingToBeDone(logging.Handler):
    """Snakemake calls no hook when there is nothing to do; the table is shown then, too."""

    def emit(self, record):
        if record.getMessage().startswith("Nothing to be done") and not workflow.dryrun:
            show_results()


def check():
    """Is all that was asked for right? Raises UserError that lists what is not."""
    if not re.fullmatch("0*[1-9][0-9]*", THREADS):
        raise UserError(f"DFKD_THREADS: {THREADS!r} is no number of threads; set a whole number above 0, or unset it")
    sweep.check(config, os.path.relpath(workflow.configfiles[-1]))
    asked = targets()
    sweep.check_paths(sorted(target for target in asked if target.startswith("results/")))
    if "version" in asked:
        sweep.check_versioned(config)


def targets():
    """What the command line asks for. Snakemake itself tells a workflow its targets only after it was read."""
    if not any(argument == "version" or argument.startswith("results/") for argument in sys.argv):
        return set()  # the parser of Snakemake takes a quarter of a second
    return set(get_argument_parser().parse_known_args(sys.argv[1:])[0].targets)


def or_end(function):
    """Call a function; its UserError ends Snakemake, which has done nothing yet, with a line for each fault and code 2."""
    try:
        return function()
    except UserError as error:
        sys.exit(print_errors(error))


THREADS = os.environ.get("DFKD_THREADS") or "1"
# Not in the processes that Snakemake starts for single jobs: there all is checked and decided.
if workflow.is_main_process:
    or_end(check)
# What the profiles reserve for a step is what runtime.threads() lets it compute with.
os.environ.update(DFKD_THREADS=THREADS)
FINALS, STALE = sweep.finals(config), set()
if workflow.is_main_process:
    STALE = or_end(stale)
    logger.addHandler(NothingToBeDone())

# The whole workflow: snakemake --cores all [--config suite=quick|fashion|cifar|paper|path/to/your.yaml]
# data -> run (train, prune, measure) -> latency -> collect -> track, tables, figures, page

from bench import workflow as bench_workflow

PLAN = bench_workflow.plan(config)
SUITE = f"results/{PLAN.config.suite}"


report: "bench/report/workflow.rst"


wildcard_constraints:
    dataset="|".join(PLAN.datasets),
    pair="|".join(PLAN.pairs),
    batch="[^/]+",  # an alternation of thousands of names would take minutes to match


rule all:
    input:
        f"{SUITE}/track.json",
        expand(f"{SUITE}/tables/{{table}}.{{kind}}", table=PLAN.paper_tables, kind=bench_workflow.KINDS),
        expand(f"{SUITE}/figures/{{figure}}.{{kind}}", figure=PLAN.figures, kind=["png", "pdf"]),
        f"{SUITE}/index.html",


rule plan:
    input:
        PLAN.file,
    output:
        f"{SUITE}/plan.json",
    log:
        f"{SUITE}/logs/plan.log",
    params:
        identity=PLAN.digest,
    message:
        "plan {SUITE}"
    shell:
        "python -m bench plan {input:q} > {output} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule data:
    output:
        f"{SUITE}/data/{{dataset}}.json",
    log:
        f"{SUITE}/logs/data/{{dataset}}.log",
    params:
        name=lambda wildcards: PLAN.datasets[wildcards.dataset],
        options=PLAN.data_options,
    retries: 2 if PLAN.config.download else 0
    message:
        "check data set {wildcards.dataset}"
    shell:
        "python -m bench data {params.name:q} {params.options} > {output} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule run:
    input:
        plan=ancient(f"{SUITE}/plan.json"),
        data=lambda wildcards: [f"{SUITE}/data/{name}.json" for name in PLAN.batch_data[wildcards.batch]],
        before=lambda wildcards: [f"{SUITE}/batches/{b}.json" for b in PLAN.batch_needs[wildcards.batch]],
    output:
        f"{SUITE}/batches/{{batch}}.json",
    log:
        f"{SUITE}/logs/run/{{batch}}.log",
    benchmark:
        f"{SUITE}/benchmarks/run/{{batch}}.tsv"
    threads: 1
    resources:
        gpu=PLAN.gpus,
    params:
        specs=lambda wildcards: PLAN.batch_json[wildcards.batch],
    message:
        "run {wildcards.batch}"
    shell:
        "OMP_NUM_THREADS={threads} python -m bench run --plan {input.plan} --batch {wildcards.batch} "
        "--threads {threads} > {output} 2> {log} || {{ tail -n 20 {log} >&2; exit 1; }}"


rule latency:
    input:
        plan=ancient(f"{SUITE}/plan.json"),
        runs=lambda wildcards: [f"{SUITE}/batches/{b}.json" for b in PLAN.timed_batches(wildcards.pair)],
    output:
        f"{SUITE}/latency/{{pair}}.csv",
    log:
        f"{SUITE}/logs/latency/{{pair}}.log",
    threads: workflow.cores  # alone on the machine: nothing may run beside a measurement
    resources:
        gpu=PLAN.gpus,
    params:
        config=PLAN.latency_json,
    message:
        "time {wildcards.pair}"
    shell:
        "python -m bench latency --plan {input.plan} --pair {wildcards.pair} 2> {log} "
        "|| {{ tail -n 20 {log} >&2; exit 1; }}"


rule solver:
    input:
        plan=ancient(f"{SUITE}/plan.json"),
    output:
        f"{SUITE}/latency/solver/{{dataset}}.csv",
    log:
        f"{SUITE}/logs/latency/solver-{{dataset}}.log",
    threads: workflow.cores  # as latency
    shell:
        "python -m bench solver --plan {input.plan} --dataset {wildcards.dataset} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule collect:
    input:
        plan=f"{SUITE}/plan.json",
        runs=expand(f"{SUITE}/batches/{{batch}}.json", batch=PLAN.batches),
        latency=expand(f"{SUITE}/latency/{{pair}}.csv", pair=PLAN.pairs if PLAN.config.latency else []),
        solver=expand(f"{SUITE}/latency/solver/{{dataset}}.csv", dataset=PLAN.solvers),
    output:
        expand(f"{SUITE}/tables/{{table}}.{{kind}}", table=PLAN.tables, kind=["parquet", "csv"]),
    log:
        f"{SUITE}/logs/collect.log",
    message:
        "collect {SUITE}"
    shell:
        "python -m bench collect --plan {input.plan} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule track:
    input:
        plan=f"{SUITE}/plan.json",
        tables=rules.collect.output,
    output:
        f"{SUITE}/track.json",
    log:
        f"{SUITE}/logs/track.log",
    message:
        "mirror {SUITE} in MLflow"
    shell:
        "python -m bench track --plan {input.plan} > {output} 2> {log} || {{ tail -n 20 {log} >&2; exit 1; }}"


if "source" in config:  # what was published, from its tidy tables alone

    include: "bench/published.smk"

    rule published:
        default_target: True
        log:
            "results/again/published.log",
        threads: workflow.cores
        params:
            parts=["tables", "figures"],
            sources=SOURCES,
        shell:
            AGAIN + SCORECARD

else:

    rule tables:
        input:
            rules.collect.output,
        output:
            [
                report(
                    f"{SUITE}/tables/{table}.{kind}",
                    caption=f"bench/report/{caption}.rst",
                    category="Tables",
                    labels={"table": table, "format": kind},
                )
                for table, caption in PLAN.paper_tables.items()
                for kind in bench_workflow.KINDS
            ],
        log:
            f"{SUITE}/logs/tables.log",
        params:
            suite=subpath(input[0], ancestor=2),  # results/<suite>
        message:
            "write tables"
        shell:
            "python -m bench tables {params.suite} 2> {log} || {{ cat {log} >&2; exit 1; }}"

    rule figures:
        input:
            rules.collect.output,
        output:
            [
                report(
                    f"{SUITE}/figures/{figure}.png",
                    caption=f"bench/report/{figure}.rst",
                    category="Figures",
                    labels={"figure": figure},
                )
                for figure in PLAN.figures
            ],
            expand(f"{SUITE}/figures/{{figure}}.pdf", figure=PLAN.figures),
        log:
            f"{SUITE}/logs/figures.log",
        params:
            suite=subpath(input[0], ancestor=2),  # results/<suite>
        message:
            "draw figures"
        shell:
            "python -m bench figures {params.suite} 2> {log} || {{ tail -n 20 {log} >&2; exit 1; }}"


rule page:
    input:
        rules.collect.output,
    output:
        f"{SUITE}/index.html",
    log:
        f"{SUITE}/logs/page.log",
    params:
        suite=subpath(output[0], parent=True),
    message:
        "write the leaderboard page"
    shell:
        "python -m bench page {params.suite} --out {output} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule publish:
    input:
        rules.all.input,
    log:
        f"{SUITE}/logs/publish.log",
    params:
        suite=subpath(input[0], parent=True),
        tag=PLAN.config.suite,
    message:
        "copy the small tables of {SUITE} to results/published/{params.tag}"
    shell:
        "python -m bench publish {params.suite} {params.tag:q} 2> {log} || {{ cat {log} >&2; exit 1; }}"


if "campaign" in config:  # latency of untrained nets and layers, on every path

    include: "bench/speed/rules.smk"

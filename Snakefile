# The whole workflow: snakemake --cores all [--config suite=quick|fashion|cifar|paper|path/to/your.yaml]
# data -> run (train, prune, measure) -> latency -> collect -> track, tables, figures

from bench import workflow as bench_workflow

PLAN = bench_workflow.plan(config)
SUITE = f"results/{PLAN.config.suite}"


wildcard_constraints:
    dataset="|".join(PLAN.datasets),
    pair="|".join(PLAN.pairs),
    figure="|".join(bench_workflow.FIGURES),


rule all:
    input:
        f"{SUITE}/track.json",
        f"{SUITE}/tables/comparison.csv",
        expand(f"{SUITE}/figures/{{figure}}.pdf", figure=bench_workflow.FIGURES),


rule plan:
    input:
        PLAN.file,
    output:
        f"{SUITE}/plan.json",
    params:
        identity=PLAN.digest,
    message:
        "plan {SUITE}"
    shell:
        "python -m bench plan {input} > {output}"


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


rule collect:
    input:
        plan=f"{SUITE}/plan.json",
        runs=expand(f"{SUITE}/batches/{{batch}}.json", batch=PLAN.batches),
        latency=expand(f"{SUITE}/latency/{{pair}}.csv", pair=PLAN.pairs if PLAN.config.latency else []),
    output:
        expand(f"{SUITE}/tables/{{table}}.{{kind}}", table=bench_workflow.TABLES, kind=["parquet", "csv"]),
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


rule tables:
    input:
        rules.collect.output,
    output:
        report(
            expand(f"{SUITE}/tables/comparison.{{kind}}", kind=["csv", "md", "tex"]),
            caption="bench/report/comparison.rst",
            category="Tables",
        ),
    log:
        f"{SUITE}/logs/tables.log",
    message:
        "write comparison tables"
    shell:
        "python -m bench tables {SUITE} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule figure:
    input:
        rules.tables.output,
    output:
        report(f"{SUITE}/figures/{{figure}}.png", caption="bench/report/{figure}.rst", category="Figures"),
        f"{SUITE}/figures/{{figure}}.pdf",
    log:
        f"{SUITE}/logs/figures/{{figure}}.log",
    message:
        "draw {wildcards.figure}"
    shell:
        "python -m bench figures {SUITE} --only {wildcards.figure} 2> {log} || {{ cat {log} >&2; exit 1; }}"


rule publish:
    input:
        rules.all.input,
    params:
        tag=PLAN.config.suite,
    message:
        "copy the small tables of {SUITE} to results/published/{params.tag}"
    shell:
        "python -m bench publish {SUITE} {params.tag:q}"

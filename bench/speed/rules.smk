# Which zeros pay where, without training: snakemake --cores all speed --config campaign=cpu
# ceilings of the machine -> each subject (a layer, a net) alone on it -> tables

SPEED, SUBJECTS = bench_workflow.campaign(config)


wildcard_constraints:
    subject="|".join(SUBJECTS),


rule speed:
    input:
        f"{SPEED}/tables/speed.csv",


rule speed_ceilings:
    output:
        f"{SPEED}/ceilings.csv",
    log:
        f"{SPEED}/logs/ceilings.log",
    threads: workflow.cores  # alone on the machine: nothing may run beside a measurement
    resources:
        gpu=PLAN.gpus,
    params:
        campaign=config["campaign"],
    shell:
        "python -m bench speed {params.campaign:q} --step ceilings > {log} 2>&1 || {{ cat {log} >&2; exit 1; }}"


rule speed_subject:
    input:
        rules.speed_ceilings.output,
    output:
        f"{SPEED}/latency/{{subject}}.csv",
        f"{SPEED}/versions/{{subject}}.csv",
    log:
        f"{SPEED}/logs/{{subject}}.log",
    threads: workflow.cores  # as speed_ceilings
    resources:
        gpu=PLAN.gpus,
    params:
        campaign=config["campaign"],
        part=lambda wildcards: SUBJECTS[wildcards.subject],
    message:
        "time {wildcards.subject}"
    shell:
        "python -m bench speed {params.campaign:q} --step subject --subject {wildcards.subject:q} > {log} 2>&1 "
        "|| {{ tail -n 20 {log} >&2; exit 1; }}"


# layers for pytest-benchmark's own tools; in a checkout, which has tests/
rule speed_benchmarks:
    output:
        f"{SPEED}/benchmarks.json",
    log:
        f"{SPEED}/logs/benchmarks.log",
    threads: workflow.cores  # as speed_ceilings
    resources:
        gpu=PLAN.gpus,
    params:
        campaign=config["campaign"],
    shell:
        "BENCH_CAMPAIGN={params.campaign:q} python -m pytest -m perf tests/perf/test_layers.py "
        "--benchmark-json={output} > {log} 2>&1 || {{ tail -n 20 {log} >&2; exit 1; }}"


rule speed_tables:
    input:
        expand(f"{SPEED}/latency/{{subject}}.csv", subject=SUBJECTS),
    output:
        f"{SPEED}/tables/speed.csv",
        f"{SPEED}/tables/crossover.csv",
        expand(f"{SPEED}/tables/{{table}}.{{kind}}", table=["layers", "nets", "controls"], kind=["md", "tex"]),
        expand(f"{SPEED}/figures/{{figure}}.{{kind}}", figure=["crossover", "theory"], kind=["pdf", "png"]),
    log:
        f"{SPEED}/logs/tables.log",
    params:
        campaign=config["campaign"],
    shell:
        "python -m bench speed {params.campaign:q} --step tables > {log} 2>&1 || {{ tail -n 20 {log} >&2; exit 1; }}"

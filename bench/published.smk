# What was published, again and in place, without data, GPU or training:
# snakemake figures --config source=published/fashion, or tables, or without a target both; source=published: all

SOURCES = bench_workflow.sources(config)
AGAIN = (
    "for part in {params.parts}; do printf 'results/%s\\n' {params.sources:q} "
    "| xargs -P {threads} -n 1 python -m bench $part || exit 1; done 2> {log} || {{ cat {log} >&2; exit 1; }}"
)

# it rests on all suites
SCORECARD = " && {{ python -m bench claims >> {log} 2>&1 || {{ cat {log} >&2; exit 1; }}; }}" if len(SOURCES) > 1 else ""


# rules without an output, so that each call does it again
rule tables:
    log:
        "results/again/tables.log",
    threads: workflow.cores
    params:
        parts="tables",
        sources=SOURCES,
    shell:
        AGAIN


rule figures:
    log:
        "results/again/figures.log",
    threads: workflow.cores
    params:
        parts="figures",
        sources=SOURCES,
    shell:
        AGAIN

"""The command line: `python -m bench <command>`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

EPILOG = """\
first steps:
  python -m bench doctor                   what this machine has, and what cannot work on it
  python -m bench methods                  every method: family, patterns, start, citation
  python -m bench plan quick --summary     what a suite would run
  python -m bench estimate fashion         how long a suite takes, from past records
  snakemake --cores all                    run the default suite; --config suite=fashion another
  python -m bench run quick --only magnitude-resnet8   do some of its runs by hand, with progress
  python -m bench new-method my_method     a method file that passes the contract suite as it is
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse and do one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="A benchmark of neural-network pruning: accuracy, size and measured latency "
        "in one row.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_subparsers(dest="command", metavar="command", required=True).add_parser
    from bench import commands

    for name, help_, attribute, options in COMMANDS:
        does = getattr(commands, attribute)
        command = add(name, help=help_, description=(does.__doc__ or "").strip())
        for flags, settings in options:
            command.add_argument(*flags, **settings)
        command.set_defaults(function=does)
    chosen = vars(parser.parse_args(arguments))
    function: Callable[..., int | None] = chosen.pop("function")
    chosen.pop("command")
    try:
        return function(**chosen) or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except commands.expected() as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


SUITE = (["suite"], {"help": "suite name (bench/config/<name>.yaml) or path of a config"})
FOLDER = (
    ["folder"],
    {"help": "a suite's folder, such as results/quick or results/published/fashion"},
)
PLAN = (["--plan"], {"required": True, "help": "plan.json of the suite"})
ROOT = (
    ["--root"],
    {"default": None, "help": "folder of the data sets; else $BENCH_DATA, else ./data"},
)
COMMANDS: list[tuple[str, str, str, list[Any]]] = [
    ("plan", "expand a config into its runs", "plan", [
        SUITE,
        (["--summary"], {"action": "store_true", "help": "counts instead of the JSON"}),
    ]),
    ("data", "check, and where allowed obtain, a data set", "data", [
        (["name"], {"help": "data set"}),
        ROOT,
        (["--download"], {"action": "store_true", "help": "let torchvision fetch it"}),
    ]),
    ("run", "do the runs of a batch, or of a suite", "run", [
        (["suite"], {"nargs": "?", "help": "suite name or config path; with --plan not needed"}),
        (["--plan"], {"help": "plan.json of the suite"}),
        (["--batch"], {"help": "the batch to do (with --plan)"}),
        (["--only"], {
            "default": "", "help": "only runs whose id starts so; what they need is done first",
        }),
        (["--threads"], {
            "type": int, "default": 1,
            "help": "CPU threads (results depend on it in the last bits)",
        }),
    ]),
    ("latency", "time the points of one (architecture, data set) pair", "latency", [
        PLAN,
        (["--pair"], {"required": True, "help": "<arch>-<dataset>"}),
    ]),
    ("solver", "time the simulator behind a data set of fields", "solver", [
        PLAN,
        (["--dataset"], {"required": True, "help": "data set"}),
    ]),
    ("kernels", "list the execution paths", "kernels", []),
    ("speed", "which zeros pay where: time untrained nets and layers, all paths", "speed", [
        (["campaign"], {"help": "bench/config/speed/<name>.yaml, or path of one"}),
        (["--step"], {
            "choices": ["ceilings", "subject", "tables", "list"],
            "help": "only the machine's ceilings, one subject, the tables, or a list of subjects",
        }),
        (["--subject"], {"help": "with --step subject: which net or layer"}),
    ]),
    ("regress", "paths that have become slower between two campaigns", "regress", [
        (["old"], {"help": "folder of a campaign, such as results/cpu"}),
        (["new"], {"help": "folder of a later one"}),
    ]),
    ("tune", "search kernel parameters for a campaign's layers, on this GPU", "tune", [
        (["campaign"], {"help": "bench/config/speed/<name>.yaml, or path of one"}),
    ]),
    ("collect", "gather all records into tidy tables", "collect", [PLAN]),
    ("track", "mirror all records in MLflow", "track", [
        PLAN,
        (["--uri"], {
            "default": None, "help": "MLflow tracking URI; else the suite's own mlflow.db",
        }),
    ]),
    ("tables", "comparison tables from tidy tables", "tables", [FOLDER]),
    ("figures", "figures from tidy tables", "figures", [
        FOLDER,
        (["--only"], {"default": None, "help": "one figure"}),
    ]),
    ("publish", "copy a suite's small tables to results/published/<tag>", "publish", [
        FOLDER,
        (["tag"], {"help": "name under results/published"}),
        (["--add"], {
            "action": "store_true", "help": "keep what is published there; add the further runs",
        }),
    ]),
    ("estimate", "predict the time of a suite from past records", "estimate", [
        SUITE,
        (["--cores"], {
            "type": int, "default": None, "help": "processes side by side; default: this machine's",
        }),
    ]),
    ("methods", "list the methods", "methods", []),
    ("deviations", "write the table of deviations from the papers", "deviations", []),
    ("doctor", "what is here, what is missing, what cannot work and why", "doctor", [ROOT]),
    ("new-method", "write a method file to start from", "new_method", [
        (["name"], {"help": "lower-case name; becomes methods/<name>.py"}),
    ]),
    ("schema", "write the JSON schema of configs", "schema", []),
    ("explain", "the runs behind a cell of a table", "explain", [
        FOLDER,
        (["table"], {
            "help": "comparison, controls, aggregate, cost, failures or (of the folder scorecard) "
            "scorecard",
        }),
        (["row"], {
            "help": "<variant>@<density>, such as dpf@0.1; the variant where that is unique; of "
            "controls with :<control> behind it; of the scorecard the claim's id",
        }),
        (["column"], {
            "help": "column of the table's CSV, such as top1, group, measured_speedup or verdict",
        }),
    ]),
    ("page", "the leaderboard page of one or several suites", "page", [
        (["folders"], {"nargs": "+", "metavar": "folder", "help": FOLDER[1]["help"]}),
        (["--out"], {
            "default": None,
            "help": "the file; else index.html in the folder, or in the one that holds them all",
        }),
    ]),
    ("claims", "the scorecard: what papers claim beside what is published here", "claims", [
        (["--published"], {
            "default": "results/published", "help": "folder of published suites, and of its output",
        }),
    ]),
]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

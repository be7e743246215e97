"""Records -> MLflow. A suite's files are the truth; MLflow is a view that can be rebuilt from them.

One process fills MLflow from `runs/*/{record.json,history.jsonl,layers.csv}` and `latency/*.csv`.
A mirrored run carries the digest of these files, so a second call writes nothing and a changed
record replaces its run. The digest is the last thing written: a run that a killed call left half
done has none and is replaced by the next call. Replaced runs go to MLflow's own trash, which
`mlflow gc` empties. `content` says what a run
shows, `source` reads its files, `store` writes.

Parallel jobs never write to one store: eight processes that open a new SQLite store at once kill
seven of them.
"""

from __future__ import annotations

from bench.track.source import TrackError
from bench.track.store import track

__all__ = ["TrackError", "track"]

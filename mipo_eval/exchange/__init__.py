"""Results of other tools in and out of the store."""

from mipo_eval.exchange.importing import FORMATS, read_path
from mipo_eval.exchange.loading import load_record
from mipo_eval.exchange.records import JudgeRecord, Imported, RunRecord
from mipo_eval.exchange.storing import store_runs

__all__ = [
    "FORMATS",
    "JudgeRecord",
    "Imported",
    "RunRecord",
    "load_record",
    "read_path",
    "store_runs",
]

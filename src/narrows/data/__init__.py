"""Code shared by all kinds of data: batches, specifications, splits, loaders, hub data sets."""

from narrows.data.batch import Batch, Spec
from narrows.data.dataset import Data, Examples
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, batches
from narrows.data.splits import differences

__all__ = ["Batch", "BatchPlan", "Data", "DataError", "Examples", "Loader", "Spec", "batches", "differences"]

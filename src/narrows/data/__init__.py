"""What all kinds of data share: batches, specifications, held-out splits, loaders, hub sets."""

from narrows.data.batch import Batch, Spec
from narrows.data.errors import DataError
from narrows.data.loader import Loader, batches
from narrows.data.splits import differences

__all__ = ["Batch", "DataError", "Loader", "Spec", "batches", "differences"]

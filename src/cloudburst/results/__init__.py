"""What the jobs of an ensemble returned, as rows; and ``write`` for points, as user code calls it in a job.

============  ============================================================================
``table``     ``Results``: DataFrame, CSV, Parquet and JSON Lines of one ensemble
``columns``   which columns there are, what stands in them, and what they are called
``snapshot``  the records of one moment on disk, in the order of their jobs
``arrow``     the types of columns in Parquet
============  ============================================================================
"""

from cloudburst.points.line import write
from cloudburst.results.table import Results

__all__ = ["Results", "write"]

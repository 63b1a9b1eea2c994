"""CloudBurst runs ensembles: one Python simulation over thousands to millions of scenarios."""

from cloudburst.names import VERSION as __version__

__all__ = ["__version__"]

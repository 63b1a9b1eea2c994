"""Where nodes come from. A provider is narrow: it makes, lists and removes the nodes of a stack."""

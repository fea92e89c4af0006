"""A local HTTP service and its web page; nothing that it is given leaves the machine."""

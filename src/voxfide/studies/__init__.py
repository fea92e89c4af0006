"""The two papers' experiments, each one command from manifests to tables and figures."""

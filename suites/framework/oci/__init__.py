"""OCI runtimes: configurations, bundles, and how the suites drive a runtime and its containers (layer 1)."""

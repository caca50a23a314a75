"""What the suites need for wrappers of build scripts: workloads, calls, gates (layer 1)."""

"""What the suites need for pod-level runtimes: an engine, its CRI, images, pods (layer 1)."""

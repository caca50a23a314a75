"""Root file systems for containers: sources, unpacking, the cache and its verification (layer 2: host side)."""

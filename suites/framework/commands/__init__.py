"""The launcher's commands, one module each (layer 2)."""

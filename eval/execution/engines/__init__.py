"""Where programs are executed: on threads of this machine (local.py), or on machines of a Ray cluster (ray.py)."""

"""What a given error of a log-likelihood costs: sdekit, torchdiffeq, and a script in plain torch.

``problems`` has the laws and what is known of them, ``contenders`` who solves them, ``measure`` the
clock and the errors, ``curve`` what is written down, ``table`` the report, ``picture`` the
pictures. ``fields`` is what the divergence estimators are held against, ``memory_child`` a process
whose memory is counted, ``first_child`` one that finds no compiled kernel.
"""

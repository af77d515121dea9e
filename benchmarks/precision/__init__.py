"""Error against work: what a given error costs with each method of each library.

``problems`` has the equations and what their answers are held to, ``contenders`` who solves them,
``torchsde_path`` and ``diffrax_methods`` what the rivals need, ``measure`` the clock and the
errors, ``curve`` what is written down, ``table`` the report, ``picture`` the picture.
"""

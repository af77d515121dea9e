"""What each torch operation means for the components of symbolic tensors.

``run`` is called for every operation of a trace. A handler from the table says what happens to the
entries; the shape of a result is that of its entries, its type follows torch's promotion. An
operation that has no row is decomposed by torch into core operations that do. (Asking torch for
shapes, on tensors without data, would load its compiler: a second and a half.)

``table`` holds the registry, ``align`` says which axis of a result is the batch, ``entries`` has
what handlers share; every other file is one family of operations.
"""

from sdekit_kernels.fuse.aten import (  # noqa: F401 - each registers its operations
    activations,
    along,
    arithmetic,
    composed,
    elementwise,
    in_place,
    indexing,
    joins,
    making,
    products,
    reductions,
    spread,
    views,
)
from sdekit_kernels.fuse.aten.dispatch import run

__all__ = ["run"]

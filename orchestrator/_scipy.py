"""scipy on one BLAS thread: on five variables, threads cost fifty times what they compute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def one_thread() -> Iterator[None]:
    """Around an import of scipy, in the function that needs it, as it takes long::

        with one_thread():
            from scipy.special import betainc

    scipy brings a BLAS of its own, which reads its number of threads when it is loaded. numpy's, which the embedded engine
    computes with, is loaded by then and keeps its own. What the user has set stays.
    """
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        os.environ.pop(THREADS, None)

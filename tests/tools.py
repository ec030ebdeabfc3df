"What several test modules use; the asserting functions are fastcore's, under names that pytest does not collect."
from fastcore.test import test_close as close  # noqa: F401  close(a, b, eps=1e-5)
from fastcore.test import test_eq as equal  # noqa: F401  equal(a, b): also of arrays, tensors and lists of them
from fastcore.test import test_fail as refused  # noqa: F401  refused(call, contains="...", exc=ValueError)
from fastcore.test import test_ne as differ  # noqa: F401

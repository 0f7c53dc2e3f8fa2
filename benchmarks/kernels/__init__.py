"""The kernels against their alternatives, and against the limit of memory bandwidth."""

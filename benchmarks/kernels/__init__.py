"""The kernels against what one would run instead, and against the memory that bounds both."""

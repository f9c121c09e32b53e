"""Columns of values for property tests: anything a machine may send, and ramps."""

from __future__ import annotations

from hypothesis import strategies as st

values = (
    st.floats(-1e300, 1e300)
    | st.integers(-100, 100)
    | st.sampled_from([None, True, "21.5", 1e301, 5e-324, -0.0, 1e-300])
)
ramps = st.builds(
    lambda start, step, n: [start + step * i for i in range(n)], st.floats(-9, 9), st.floats(-2, 2), st.integers(0, 30)
)
columns = st.lists(values, max_size=30) | ramps

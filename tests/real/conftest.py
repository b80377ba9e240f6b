"""Have pytest spell out the assertions of `trial` too, as it does those of tests."""

import pytest

pytest.register_assert_rewrite(f"{__package__}.trial")

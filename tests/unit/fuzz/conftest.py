from hypothesis import HealthCheck, settings

from tests.fuzz.profile import LONG

# For `pytest --hypothesis-profile`, as `make fuzz` calls it.
settings.register_profile(LONG, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

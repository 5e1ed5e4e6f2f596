from hypothesis import HealthCheck, settings

# `make fuzz` takes the long one; `make test` what each test says by itself.
settings.register_profile(
    "fuzz", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)

"""What must hold when something fails: a tamper proxy before the servers, and the tests that use it."""

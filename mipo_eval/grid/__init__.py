"""A whole table by one command: models x methods x seeds x suites x judges."""

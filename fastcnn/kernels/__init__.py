"""The compiled engine: kernel tables, drivers and the executor."""

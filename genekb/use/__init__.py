"""What is done with a finished store: search it, compare its encoders, export it, clear away what no store needs."""

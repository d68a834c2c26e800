"""What GitHub (or a terminal) gives to a command and takes from it."""
